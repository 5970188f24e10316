"""The repair service: a set that does not grow, a preview that changes nothing, and a result for each letter."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from ledger_bench import EMPLOYEES, URLS, Bench, WakeupRecorder, a_letter, open_bench

from tasks.dlq.dead_letter import DeadLetter, Rejection
from tasks.dlq.errors import BrokerUnavailable, Refused
from tasks.dlq.ledger.repairs import Result, Selection
from tasks.dlq.services.repair import LetterResult, Repair

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tasks.dlq.ports import Record
    from tasks.dlq.services.repair import Chosen


class Reader:
    """Reads a body that consists of digits."""

    def read(self, source: str, record: Record) -> DeadLetter:
        common: dict[str, Any] = {"source": source, "identity": record.identity, "body": record.body}
        if record.body.isdigit():
            return DeadLetter(**common, route="employees", keys=[f'{{"employeeId":"{record.body.decode()}"}}'])
        return DeadLetter(**common, rejection=Rejection(reason="not-json", detail="no digits"))


@pytest.fixture(params=URLS)
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    yield from open_bench(request.param, tmp_path)


@pytest.fixture
def sender() -> WakeupRecorder:
    return WakeupRecorder()


@pytest.fixture
def service(bench: Bench, sender: WakeupRecorder) -> Repair:
    return Repair(bench.ledger, {"queue": Reader()}, {"employees": EMPLOYEES}, sender)


def reject(bench: Bench, *bodies: bytes, source: str = "queue") -> list[int]:
    """Record rejected letters; return their ids."""
    before = {row["id"] for row in bench.rows("dead_letters")}
    bench.put(*(a_letter(body=body, source=source) for body in bodies))
    return sorted({row["id"] for row in bench.rows("dead_letters")} - before)


def repair(service: Repair, chosen: Chosen, **how: Any) -> list[LetterResult]:
    return [letter for batch in service.repair(chosen, actor="alice", reason="why", **how) for letter in batch.letters]


def test_each_letter_has_a_result_and_workers_are_woken(bench: Bench, sender: WakeupRecorder, service: Repair):
    good, bad = reject(bench, b"1", b"x")
    (foreign,) = reject(bench, b"2", source="gone")
    chosen = service.choose(Selection())
    assert chosen.reasons == {"not-json": 3}
    assert repair(service, chosen) == [
        LetterResult(letter_id=good, source="queue", result=Result.REPAIRED, route="employees", parameters=[{"employeeId": "1"}]),
        LetterResult(letter_id=bad, source="queue", result=Result.REJECTED, reason="not-json", detail="no digits"),
        LetterResult(letter_id=foreign, source="gone", result=Result.LEFT_ALONE, detail="its source is not configured"),
    ]
    assert len(sender.sent) == 1
    assert bench.sums() == {"accepted": 3, "pending": 1, "rejected": 2}
    again = repair(service, service.choose(Selection(ids=[good, bad, 404])))
    assert [(letter.letter_id, letter.result) for letter in again] == [
        (bad, Result.REJECTED),
        (good, Result.NOT_REJECTED),
        (404, Result.NOT_FOUND),
    ]


def test_letters_that_are_rejected_after_the_choice_do_not_belong_to_it(bench: Bench, service: Repair):
    first, second, _ = reject(bench, b"1", b"2", b"3")
    limited, chosen = service.choose(Selection(), limit=1), service.choose(Selection(), limit=2)
    reject(bench, b"4")
    assert limited.reasons.total() == 1
    assert [letter.letter_id for letter in repair(service, chosen)] == [first, second]


def test_a_letter_that_another_repair_took_meanwhile_is_skipped(bench: Bench, sender: WakeupRecorder, service: Repair):
    class Slow(Reader):
        """Another repair is quicker than this reader."""

        def read(self, source: str, record: Record) -> DeadLetter:
            assert [letter.result for letter in repair(service, chosen)] == [Result.REPAIRED]
            return super().read(source, record)

    (letter,) = reject(bench, b"1")
    chosen = service.choose(Selection())
    slow = Repair(bench.ledger, {"queue": Slow()}, {"employees": EMPLOYEES}, sender)
    assert repair(slow, chosen) == [LetterResult(letter_id=letter, source="queue", result=Result.CHANGED)]
    assert bench.sums() == {"accepted": 1, "pending": 1}


def test_a_preview_changes_nothing(bench: Bench, sender: WakeupRecorder, service: Repair):
    reject(bench, b"1", b"x")
    chosen = service.choose(Selection())
    previewed = repair(service, chosen, dry_run=True)
    assert (bench.sums(), sender.sent) == ({"accepted": 2, "rejected": 2}, [])
    assert repair(service, chosen) == previewed


def test_a_body_that_would_be_rejected_again_is_refused(bench: Bench, service: Repair):
    (letter,) = reject(bench, b"x")
    (foreign,) = reject(bench, b"x", source="gone")
    chosen = service.choose(Selection(ids=[letter]))
    for run in (service.repair(chosen, actor="alice", body=b"y", dry_run=True), service.repair(chosen, actor="alice", body=b"y")):
        with pytest.raises(Refused, match="would be rejected again: no digits"):
            list(run)
    with pytest.raises(Refused, match="source gone"):
        repair(service, service.choose(Selection(ids=[foreign])), body=b"1")
    assert bench.sums() == {"accepted": 2, "rejected": 2}
    assert [one.result for one in repair(service, chosen, body=b"7")] == [Result.REPAIRED]
    (row,) = [row for row in bench.rows("dead_letters") if row["id"] == letter]
    assert (bytes(row["body"]), bytes(row["original_body"])) == (b"7", b"x")


def test_a_paused_route_and_unsent_wakeups_are_values(bench: Bench, sender: WakeupRecorder, service: Repair):
    reject(bench, b"1")
    bench.execute("INSERT INTO routes (name, paused_at, paused_by) VALUES ('employees', 1, 'bob')")
    batch, _ = service.repair(service.choose(Selection()), actor="alice")
    assert (batch.wakeups.paused, batch.wakeups.error) == (["employees"], None)
    bench.execute("UPDATE routes SET paused_at = NULL")
    reject(bench, b"2")
    sender.broken = True
    batch, _ = service.repair(service.choose(Selection()), actor="alice")
    assert isinstance(batch.wakeups.error, BrokerUnavailable)
