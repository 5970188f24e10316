"""A JSONL file as a source: every line once, whatever its bytes are, in a memory that does not grow with the file."""

from __future__ import annotations

import errno
import tracemalloc
from io import BytesIO
from itertools import chain, repeat
from typing import IO, TYPE_CHECKING

import pytest
from ledger_bench import SQLITE, Bench, WakeupRecorder, open_bench

from tasks.adapters import jsonl
from tasks.adapters.jsonl import LONGEST_LINE, JsonlSource, LineReader
from tasks.dlq.calls.route import Route
from tasks.dlq.errors import LedgerUnavailable, OutOfReach
from tasks.dlq.parameters import Integer
from tasks.dlq.reading.reader import SubmissionReader
from tasks.dlq.services.intake import Intake

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tasks.dlq.ledger.dead_letters import Recorded
    from tasks.dlq.ports import Record

ROUTES = {
    name: Route(name=name, url="http://127.0.0.1:1/{employeeId}", params={"employeeId": Integer(positive=True)})
    for name in ("employees", "companies")
}
READER = LineReader(SubmissionReader(routes=ROUTES))


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    yield from open_bench(SQLITE, tmp_path)


def source(content: bytes | IO[bytes], *, route: str = "employees", salt: str = "") -> JsonlSource:
    stream = BytesIO(content) if isinstance(content, bytes) else content
    return JsonlSource("cli", stream, route=route, salt=salt)


def records(content: bytes | IO[bytes], **how: str) -> list[Record]:
    made = source(content, **how)
    return list(chain.from_iterable(iter(lambda: made.receive(wait=0), [])))


def lines(content: bytes) -> list[tuple[object, bytes]]:
    return [(each.origin["line"], each.body) for each in records(content)]


def intake(bench: Bench, content: bytes | IO[bytes], **how: str) -> Recorded:
    made = source(content, **how)
    return Intake(bench.ledger, ROUTES, WakeupRecorder()).drain(made, READER, seconds=float("inf"))


def reason(content: bytes) -> str | None:
    (record,) = records(content)
    letter = READER.read("cli", record)
    return letter.rejection and letter.rejection.reason


def employees(*numbers: int) -> bytes:
    return b"".join(b'{"employeeId": %d}\n' % number for number in numbers)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", []),
        (b"\n \n\r\n\t\n", []),
        (b"a\nb\n", [(1, b"a"), (2, b"b")]),
        (b"a\n\nb", [(1, b"a"), (3, b"b")]),
        (b"a\r\nb\r\n", [(1, b"a"), (2, b"b")]),
        (b"\xef\xbb\xbfa\n\xef\xbb\xbfb", [(1, b"a"), (2, b"\xef\xbb\xbfb")]),
        (b"\xef\xbb\xbf", []),
        (b"\xff\x00\n", [(1, b"\xff\x00")]),
    ],
    ids=["empty", "blank", "plain", "no-final-newline", "crlf", "bom", "only-bom", "binary"],
)
def test_what_a_line_is(content: bytes, expected: list[tuple[int, bytes]]):
    assert lines(content) == expected


def test_line_ends_and_a_byte_order_mark_make_no_other_line():
    plain, marked = records(employees(1, 2)), records(b"\xef\xbb\xbf" + employees(1, 2).replace(b"\n", b"\r\n"))
    assert [each.identity for each in plain] == [each.identity for each in marked]


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"])
def test_the_longest_line_is_taken_whole_and_a_longer_one_rejected(end: bytes):
    head, next_line = b'{"employeeId": 1', b'{"employeeId": 2}'
    longest = head + b" " * (LONGEST_LINE - len(head) - 1) + b"}"
    first, *rest = records(longest + end + (next_line if end else b""))
    assert (first.body, READER.read("cli", first).rejection) == (longest, None)
    assert [each.body for each in rest] == [next_line] * bool(end)

    longer = longest[:-1] + b" " * 3_000_000 + b"}"
    first, *rest = records(longer + end + (next_line if end else b""))
    rejection = READER.read("cli", first).rejection
    assert rejection
    assert (rejection.reason, f"{len(longer):,} bytes" in rejection.detail) == ("too-large", end == b"")
    assert len(first.body) < LONGEST_LINE + 10
    assert [each.body for each in rest] == [next_line] * bool(end)


def test_long_lines_that_begin_alike_are_different_failures():
    head = b"x" * (LONGEST_LINE + 100)
    one, other = records(head + b"1\n" + head + b"2\n")
    assert one.body == other.body
    assert one.identity != other.identity


def test_a_long_line_of_blanks_hides_nothing():
    (record,) = records(b" " * (LONGEST_LINE + 100) + employees(1))
    assert READER.read("cli", record).rejection


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b'{"employeeId": 7}', None),
        (b'{"employeeId": "7"}', None),
        (b"not json", "not-json"),
        (b"\xff", "not-utf8"),
        (b"[1]", "no-object"),
        (b"null", "no-object"),
        (b"[" * 100_000, "too-deep"),
        (b'{"employeeId": ' + b"9" * 5000 + b"}", "integer-too-long"),
        (b'{"employeeId": 0}', "invalid-parameter"),
        (b'{"employeId": 1}', "invalid-parameter"),
        (b'{"employeeId": 1, "employeeId": 2}', "duplicate-key"),
        (b'{"employeeId": NaN}', "not-a-number"),
    ],
)
def test_what_a_line_reads_as(line: bytes, expected: str | None):
    assert reason(line) == expected


def test_a_line_for_a_route_that_is_gone_is_rejected_and_says_so():
    (record,) = records(employees(1), route="teams")
    rejection = READER.read("cli", record).rejection
    assert rejection
    assert (rejection.reason, "teams" in rejection.detail) == ("unknown-route", True)


def test_the_same_file_twice_adds_nothing_and_equal_lines_are_failures_of_their_own(bench: Bench):
    content = employees(1, 2, 1, 1) + b"not json\n"
    assert intake(bench, content).accepted == 5
    assert intake(bench, content).known == 5
    assert bench.sums() == {"accepted": 5, "pending": 4, "rejected": 1}


def test_lines_in_front_in_between_and_at_the_end_are_new_and_no_others(bench: Bench):
    intake(bench, employees(1, 2, 1))
    again = intake(bench, employees(3, 1, 4, 2, 1, 1))
    assert (again.accepted, again.known) == (3, 3)


def test_another_route_or_another_salt_makes_other_failures(bench: Bench):
    intake(bench, employees(1))
    assert intake(bench, employees(1), route="companies").accepted == 1
    assert intake(bench, employees(1), salt="again").accepted == 1


def test_a_run_that_the_ledger_ended_is_resumed_by_running_it_again(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(jsonl, "BATCH", 3)
    content = employees(1, 2, 3, 1, 2, 3, 1)
    service = Intake(bench.ledger, ROUTES, WakeupRecorder())
    transact, calls = bench.ledger.transact, iter((True, True, False))

    def fail_once(work: object) -> object:
        if not next(calls, True):
            raise LedgerUnavailable("away")
        return transact(work)  # type: ignore[arg-type]

    monkeypatch.setattr(bench.ledger, "transact", fail_once)
    cut = source(content)
    with pytest.raises(LedgerUnavailable):
        service.drain(cut, READER, seconds=float("inf"))
    assert bench.sums() == {"accepted": 3, "pending": 3}

    rest = service.drain(cut, READER, seconds=float("inf"))
    assert (rest.accepted, rest.known) == (4, 3), "what was given back comes again"
    assert intake(bench, content).known == 7
    assert bench.sums() == {"accepted": 7, "pending": 7}


def test_a_file_that_breaks_off_is_no_file_that_ended():
    class Breaking(BytesIO):
        def readline(self, size: int | None = -1, /) -> bytes:
            if self.tell() > 20:
                raise OSError(errno.EIO, "Input/output error")
            return super().readline(size)

    made = source(Breaking(employees(1, 2, 3)))
    for _ in range(2):
        with pytest.raises(OutOfReach, match="from line 3 on: Input/output error"):
            made.receive(wait=0)


def test_the_memory_does_not_grow_with_the_file():
    class Endless(BytesIO):
        """Lines that all differ."""

        def __init__(self, count: int) -> None:
            super().__init__()
            self._lines = (b'{"employeeId": %d}\n' % (number + 1) for number in range(count))

        def readline(self, _size: int | None = -1, /) -> bytes:
            return next(self._lines, b"")

    def peak(count: int) -> int:
        made = source(Endless(count))
        tracemalloc.start()
        taken = sum(len(batch) for batch in iter(lambda: made.receive(wait=0), []))
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        made.close()
        assert taken == count
        return most

    peak(10)
    assert peak(20_000) < peak(2_000) * 1.2


def test_a_batch_ends_before_long_lines_fill_the_memory():
    made = source(b"".join(repeat(b"x" * 500_000 + b"\n", 40)))
    sizes = [sum(len(each.body) for each in batch) for batch in iter(lambda: made.receive(wait=0), [])]
    assert sum(sizes) == 40 * 500_000
    assert max(sizes) < jsonl.BATCH_BYTES + LONGEST_LINE
