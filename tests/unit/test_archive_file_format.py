"""The file of an exported ledger: what is written is read again, and a file that is damaged or wrong is refused by its line."""

from __future__ import annotations

import base64
import io
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.dlq.archive.file_format import OMITTED_COLUMNS, Header, Reader, Row, Writer, exported_columns, exported_tables
from tasks.dlq.errors import Refused

HEADER = Header(revision="0004", redrive="0.1.0", at=1_700_000_000_000, last_ids={"dead_letters": 7})
DEAD_LETTERS = next(table for table in exported_tables() if table.name == "dead_letters")
LETTER: dict[str, Any] = dict.fromkeys(column.name for column in exported_columns(DEAD_LETTERS)) | {
    "id": 1,
    "source": "queue",
    "identity": "m-1",
    "stream": "",
    "origin": "{}",
    "body": b"{}",
    "received_at": 1,
}


def written(*rows: dict[str, Any]) -> bytes:
    file = io.BytesIO()
    writer = Writer(file.write, HEADER)
    for row in rows:
        writer.write_row("dead_letters", row)
    writer.end()
    return file.getvalue()


def read(file: bytes) -> list[Row]:
    return list(Reader(io.BytesIO(file)))


def refusal(file: bytes) -> str:
    with pytest.raises(Refused) as caught:
        read(file)
    assert caught.value.hint
    return caught.value.message


def with_row(**values: Any) -> bytes:
    """Return a file with one row that has other values, as JSON has them; its digest fits."""
    file = io.BytesIO()
    writer = Writer(file.write, HEADER)
    row = LETTER | {"body": base64.b64encode(b"{}").decode()} | values
    writer._write_line({"table": "dead_letters", "row": {name: value for name, value in row.items() if value is not ...}})
    writer.rows["dead_letters"] += 1
    writer.end()
    return file.getvalue()


def test_the_first_line_describes_the_file():
    first, row, last = [json.loads(line) for line in written(LETTER).splitlines()]
    assert first == {
        "format": "redrive-ledger",
        "version": 1,
        "revision": "0004",
        "redrive": "0.1.0",
        "at": 1_700_000_000_000,
        "last_ids": {"dead_letters": 7},
    }
    assert (row["table"], row["row"]["body"]) == ("dead_letters", "e30=")
    assert last["rows"]["dead_letters"] == 1
    assert set(last["rows"]) == {table.name for table in exported_tables()}
    assert Reader(io.BytesIO(written())).header == HEADER


HOSTILE = st.text(st.characters(exclude_categories=["Cs"])) | st.sampled_from(["\0", '"\\ud800"', "\u2028\x85\r\n", "[" * 1000])
#: What the database holds in such columns.
ROWS = st.fixed_dictionaries({
    "id": st.integers(min_value=1, max_value=10**15),
    "identity": HOSTILE,
    "origin": st.dictionaries(HOSTILE, HOSTILE).map(json.dumps),
    "body": st.binary(),
    "original_body": st.none() | st.binary(),
})  # fmt: skip


@settings(deadline=None)
@given(rows=st.lists(ROWS, max_size=3))
def test_any_row_is_read_as_it_was_written(rows: list[dict[str, Any]]):
    letters = [LETTER | row for row in rows]
    file = written(*letters)
    assert file.isascii()
    found = read(file)
    assert [row.values for row in found] == letters
    assert [(row.line, row.table.name) for row in found] == [(2 + place, "dead_letters") for place in range(len(rows))]


def test_a_large_body_is_read_as_it_was_written():
    letter = LETTER | {"body": bytes(range(256)) * 4096}
    assert [row.values for row in read(written(letter))] == [letter]


@pytest.mark.parametrize("lines", range(4))
def test_a_file_cut_between_two_lines_is_refused(lines: int):
    whole = written(LETTER, LETTER | {"id": 2}, LETTER | {"id": 3}).splitlines(keepends=True)
    told = refusal(b"".join(whole[: lines + 1]))
    assert told == f"the file was cut: it ends with line {lines + 1}, without the last line of an export"


def test_a_file_cut_anywhere_is_refused():
    whole = written(LETTER)
    assert read(whole[:-1]), "but for the line end, all is there"
    for end in range(len(whole) - 1):
        refusal(whole[:end])


def test_any_changed_byte_is_refused():
    whole = written(LETTER)
    for place, byte in enumerate(whole[:-1]):
        refusal(whole[:place] + bytes([byte ^ 1]) + whole[place + 1 :])


def test_a_removed_or_doubled_line_is_refused():
    first, one, two, last = written(LETTER, LETTER | {"id": 2}).splitlines(keepends=True)
    for lines in ([first, two, last], [first, one, one, two, last], [first, two, one, last]):
        assert refusal(b"".join(lines)) == "the file was changed or damaged: its digest does not match"


def test_text_after_the_last_line_is_refused():
    whole = written(LETTER)
    assert refusal(whole + whole) == "line 4: the file goes on after its last line: two files in one?"


def test_wrong_numbers_of_rows_are_refused():
    file = io.BytesIO()
    writer = Writer(file.write, HEADER)
    writer.write_row("dead_letters", LETTER)
    writer.rows["dead_letters"] += 1
    writer.end()
    assert refusal(file.getvalue()) == "line 3: its numbers of rows do not match the lines before it"


@pytest.mark.parametrize(
    "file", [b"", b"\n", b"{}", b"[]", b"null", b'{"format": "sheet"}', b"\xff", b"\0" * (1 << 20), b"[" * 60_000]
)
def test_a_file_that_is_not_an_export_is_refused(file: bytes):
    assert refusal(file) == "this is not an export of a ledger"


def test_another_format_is_refused_with_the_version_that_reads_it():
    with pytest.raises(Refused) as caught:
        Reader(io.BytesIO(b'{"format":"redrive-ledger","version":2,"redrive":"9.0.0"}\n'))
    assert caught.value.message == "the file has format 2, and this Redrive reads format 1"
    assert caught.value.hint == "import it with Redrive '9.0.0', which wrote it"


@pytest.mark.parametrize(
    "change",
    [
        {"at": "now"},
        {"at": -1},
        {"at": True},
        {"revision": 4},
        {"revision": "0\n001"},
        {"redrive": None},
        {"redrive": "\x1b[31m"},
        {"redrive": "1" * 1000},
        {"last_ids": []},
        {"at": 1 << 62},
        {"last_ids": {"jobs": True}},
        {"last_ids": {"jobs": 1 << 63}},
    ],
)
def test_a_wrong_first_line_is_refused(change: dict[str, Any]):
    first, *rest = written(LETTER).splitlines(keepends=True)
    assert refusal(b"".join([json.dumps(json.loads(first) | change).encode() + b"\n", *rest])).startswith("line 1: ")


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"id": "1"}, "dead_letters.id: Input should be a valid integer"),
        ({"id": 0}, "dead_letters.id: Input should be greater than or equal to 1"),
        ({"body": "e30"}, "dead_letters.body: Incorrect padding"),
        ({"origin": "[]"}, "dead_letters.origin: it must be a JSON object"),
        ({"source": None}, "dead_letters.source: Input should be a valid string"),
        ({"reject_reason": "\x1b[31m" * 100}, "dead_letters.reject_reason: String should match pattern '^[a-z0-9_-]+$'"),
        ({"identity": ...}, "dead_letters.identity: Field required"),
        ({"password": "x"}, "dead_letters.password: Extra inputs are not permitted"),
        ({"\x1b[31m": "x"}, r"dead_letters.\x1b[31m: Extra inputs are not permitted"),
    ],
)
def test_a_wrong_value_is_refused_with_its_line(values: dict[str, Any], told: str):
    assert refusal(with_row(**values)) == f"line 2: {told}"


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (b"not json", "it is not a JSON object"),
        (b"[]", "it is not a JSON object"),
        (b'{"table":"jobs","row":' + b"[" * 100_000, "it is not a JSON object"),
        (b'{"table":"jobs","row":{"id":' + b"9" * 5000 + b"}}", "it is not a JSON object"),
        (b'{"table":"jobs"}', "it is not a row"),
        (b'{"table":["jobs"],"row":{}}', "there is no table a list"),
        (b'{"table":"processes","row":{}}', "there is no table 'processes'"),
        (b'{"table":"alembic_version","row":{}}', "there is no table 'alembic_version'"),
    ],
)
def test_a_line_that_is_not_a_row_is_refused(line: bytes, told: str):
    first, last = written().splitlines(keepends=True)
    assert refusal(first + line + b"\n" + last) == f"line 2: {told}"


def test_wakeups_are_not_exported():
    for table in exported_tables():
        names = {column.name for column in exported_columns(table)}
        assert names == {column.name for column in table.columns} - OMITTED_COLUMNS.get(table.name, set())
    assert {name for columns in OMITTED_COLUMNS.values() for name in columns} == {"wakeup_until", "swept_at", "sweep_timeout"}
