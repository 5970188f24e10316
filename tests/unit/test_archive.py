"""The file of an exported ledger: what is written is read, byte for byte, and what is no whole file is told by its line."""

from __future__ import annotations

import base64
import io
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.dlq.archive.file_format import LEFT_OUT_COLUMNS, Header, Reader, Row, Writer, columns_of, exported
from tasks.dlq.errors import Refused

HEADER = Header(revision="0004", redrive="0.1.0", at=1_700_000_000_000, last_ids={"dead_letters": 7})
LETTER: dict[str, Any] = {column.name: None for column in columns_of(next(t for t in exported() if t.name == "dead_letters"))} | {
    "id": 1,
    "source": "queue",
    "identity": "m-1",
    "stream": "",
    "origin": "{}",
    "body": b"{}",
    "received_at": 1,
}


SHOWN = ascii("\x1b[31m" * 100)[:39] + "…"


def written(*rows: dict[str, Any]) -> bytes:
    file = io.BytesIO()
    writer = Writer(file.write, HEADER)
    for row in rows:
        writer.row("dead_letters", row)
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
    writer._line({"table": "dead_letters", "row": {name: value for name, value in row.items() if value is not ...}})
    writer.rows["dead_letters"] += 1
    writer.end()
    return file.getvalue()


def test_a_file_says_who_wrote_it_when_and_by_which_schema():
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
    assert set(last["rows"]) == {table.name for table in exported()}
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
def test_whatever_a_row_holds_is_read_as_it_was_written(rows: list[dict[str, Any]]):
    letters = [LETTER | row for row in rows]
    file = written(*letters)
    assert file.isascii()
    found = read(file)
    assert [row.values for row in found] == letters
    assert [(row.line, row.table.name) for row in found] == [(2 + place, "dead_letters") for place in range(len(rows))]


def test_a_body_of_a_mebibyte_is_read_as_it_was_written():
    letter = LETTER | {"body": bytes(range(256)) * 4096}
    assert [row.values for row in read(written(letter))] == [letter]


@pytest.mark.parametrize("lines", range(4))
def test_a_file_that_was_cut_between_two_lines_is_told(lines: int):
    whole = written(LETTER, LETTER | {"id": 2}, LETTER | {"id": 3}).splitlines(keepends=True)
    told = refusal(b"".join(whole[: lines + 1]))
    assert told == f"the file was cut: it ends with line {lines + 1}, without an export's last line"


def test_a_file_that_was_cut_anywhere_is_told():
    whole = written(LETTER)
    assert read(whole[:-1]), "but for the line end, all is there"
    for end in range(len(whole) - 1):
        refusal(whole[:end])


def test_any_byte_that_was_changed_is_told():
    whole = written(LETTER)
    for place, byte in enumerate(whole[:-1]):
        refusal(whole[:place] + bytes([byte ^ 1]) + whole[place + 1 :])


def test_a_line_that_was_taken_away_or_doubled_is_told():
    first, one, two, last = written(LETTER, LETTER | {"id": 2}).splitlines(keepends=True)
    for lines in ([first, two, last], [first, one, one, two, last], [first, two, one, last]):
        assert refusal(b"".join(lines)) == "the file was changed or damaged: the digest in its last line is another"


def test_what_follows_the_last_line_is_told():
    whole = written(LETTER)
    assert refusal(whole + whole) == "line 4: it should be the file's last: two files in one?"


def test_numbers_of_rows_that_are_others_are_told():
    file = io.BytesIO()
    writer = Writer(file.write, HEADER)
    writer.row("dead_letters", LETTER)
    writer.rows["dead_letters"] += 1
    writer.end()
    assert refusal(file.getvalue()) == "line 3: its numbers of rows are not those of the lines before"


@pytest.mark.parametrize(
    "file", [b"", b"\n", b"{}", b"[]", b"null", b'{"format": "sheet"}', b"\xff", b"\0" * (1 << 20), b"[" * 60_000]
)
def test_what_is_no_export_is_told(file: bytes):
    assert refusal(file) == "this is no export of a ledger"


def test_another_format_is_told_with_the_redrive_that_reads_it():
    with pytest.raises(Refused) as caught:
        Reader(io.BytesIO(b'{"format":"redrive-ledger","version":2,"redrive":"9.0.0"}\n'))
    assert caught.value.message == "the file is written in format 2, and this Redrive reads format 1"
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
def test_a_first_line_that_does_not_fit_is_told(change: dict[str, Any]):
    first, *rest = written(LETTER).splitlines(keepends=True)
    assert refusal(b"".join([json.dumps(json.loads(first) | change).encode() + b"\n", *rest])).startswith("line 1: ")


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"id": "1"}, "dead_letters.id is '1'; it must be a whole number from 1 to 1000000000000000"),
        ({"body": "e30"}, "dead_letters.body is wrong; it must be base64"),
        ({"identity": "\ud800"}, r"dead_letters.identity is '\ud800'; it must be text that UTF-8 has"),
        ({"source": None}, "dead_letters.source is null; it must be a name of a-z 0-9 _"),
        ({"reject_reason": "\x1b[31m" * 100}, f"dead_letters.reject_reason is {SHOWN}; it must be a word of a-z 0-9 _ -"),
        ({"identity": ...}, "dead_letters.identity is missing"),
        ({"password": "x"}, "dead_letters.password is not known"),
        ({"\x1b[31m": "x"}, r"dead_letters.\x1b[31m is not known"),
    ],
)
def test_a_value_that_does_not_fit_is_told_with_its_line(values: dict[str, Any], told: str):
    assert refusal(with_row(**values)) == f"line 2: {told}"


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (b"not json", "it is no JSON object"),
        (b"[]", "it is no JSON object"),
        (b'{"table":"jobs","row":' + b"[" * 100_000, "it is no JSON object"),
        (b'{"table":"jobs","row":{"id":' + b"9" * 5000 + b"}}", "it is no JSON object"),
        (b'{"table":"jobs"}', "it is no row"),
        (b'{"table":["jobs"],"row":{}}', "there is no table a list"),
        (b'{"table":"processes","row":{}}', "there is no table 'processes'"),
        (b'{"table":"alembic_version","row":{}}', "there is no table 'alembic_version'"),
    ],
)
def test_a_line_that_is_no_row_is_told(line: bytes, told: str):
    first, last = written().splitlines(keepends=True)
    assert refusal(first + line + b"\n" + last) == f"line 2: {told}"


def test_wake_ups_that_are_out_stay_behind():
    for table in exported():
        names = {column.name for column in columns_of(table)}
        assert names == {column.name for column in table.columns} - LEFT_OUT_COLUMNS.get(table.name, set())
    assert {name for columns in LEFT_OUT_COLUMNS.values() for name in columns} == {"wakeup_until", "swept_at", "sweep_timeout"}
