"""Repairing rejected letters: once each, balanced at every moment, and whatever someone else does meanwhile."""

from __future__ import annotations

import hashlib
import threading
from typing import TYPE_CHECKING, Any

import pytest
from ledger_bench import URLS, A, B, Bench, C, a_letter, employee, open_bench
from sqlalchemy import select
from waiting import TEST_TIMEOUT

from tasks.dlq.errors import NotFound
from tasks.dlq.ledger import DatabaseClock, operations, repairs
from tasks.dlq.ledger.pruning import prune_jobs, prune_letters
from tasks.dlq.ledger.repairs import Repaired, Result, Selection, repair
from tasks.dlq.ledger.schema import audit_log

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tasks.dlq.dead_letter import DeadLetter
    from tasks.dlq.ledger import Ledger

DELAYS = {"employees": 30.0}


@pytest.fixture(params=URLS)
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    yield from open_bench(request.param, tmp_path)


def now_read(letter_id: int, *keys: str) -> tuple[int, DeadLetter]:
    """Return a letter that is read as needing these keys; without keys it is rejected again."""
    return letter_id, a_letter(*keys)


def put_rejected(bench: Bench, count: int = 1, **values: Any) -> list[int]:
    before = {row["id"] for row in bench.rows("dead_letters")}
    bench.put(*(a_letter(**values) for _ in range(count)))
    return sorted({row["id"] for row in bench.rows("dead_letters")} - before)


def mend(bench: Bench, *letters: tuple[int, DeadLetter], body: bytes | None = None, ledger: Ledger | None = None) -> Repaired:
    return (ledger or bench.ledger).transact(
        lambda tx: repair(tx, dict(letters), delays=DELAYS, actor="alice@ops", reason="mapping mended", body=body)
    )


def audit_entries(bench: Bench) -> list[tuple[str, str, str, str]]:
    columns = audit_log.c
    with bench.ledger.begin(read_only=True) as tx:
        rows = tx.connection.execute(select(columns.actor, columns.action, columns.subject, columns.reason).order_by(columns.id))
        return [tuple(row) for row in rows]


def test_a_letter_that_can_be_read_now_has_its_needs_and_the_audit_balances(bench: Bench):
    (letter,) = put_rejected(bench)
    bench.put(a_letter(A))
    bench.clock.advance(1)
    (before,) = [row for row in bench.rows("dead_letters") if row["id"] == letter]

    done = mend(bench, now_read(letter, A, B))

    assert done.results == {letter: Result.REPAIRED}
    assert done.opened == [("employees", bench.job(B)["id"])], "A's job waits already: its due time stands"
    assert bench.seqs(A) == [1, 2]
    assert bench.due_in(B) == 30.0
    assert bench.sums() == {"accepted": 2, "pending": 2}
    (after,) = [row for row in bench.rows("dead_letters") if row["id"] == letter]
    assert dict(after) == {**before, "reject_reason": None, "reject_detail": None}, "it keeps its place, identity and bytes"
    assert audit_entries(bench) == [("alice@ops", "repair", f"letter {letter}", "mapping mended")]


def test_a_repaired_letter_is_covered_only_by_a_call_that_began_after(bench: Bench):
    (letter,) = put_rejected(bench)
    bench.put_due(A)
    held = bench.claimed()
    mend(bench, now_read(letter, A))

    bench.settle(held)
    assert bench.sums() == {"accepted": 2, "recovered": 1, "pending": 1}
    bench.clock.advance(30)
    bench.call()
    assert bench.sums() == {"accepted": 2, "recovered": 2}


def test_another_body_takes_the_place_of_the_bytes_that_arrived_and_both_are_kept(bench: Bench):
    (letter,) = put_rejected(bench, body=b"\xff{")
    mend(bench, now_read(letter, A), body=employee(1))

    (row,) = bench.rows("dead_letters")
    assert (row["body"], row["original_body"]) == (employee(1), b"\xff{")
    assert bench.do(repairs.find_original_body, letter) == b"\xff{"
    digest = hashlib.sha256(employee(1)).hexdigest()
    assert audit_entries(bench)[0][2] == f"letter {letter}, by the body sha256:{digest}"


def test_what_cannot_be_read_still_is_rejected_for_the_reason_that_holds_now(bench: Bench):
    (letter,) = put_rejected(bench)
    bench.execute("UPDATE dead_letters SET reject_reason = 'no-match', reject_detail = 'as the mapping was'")

    assert mend(bench, now_read(letter)).results == {letter: Result.REJECTED}
    (row,) = bench.rows("dead_letters")
    assert (row["reject_reason"], row["reject_detail"]) == ("not-json", "the body is not JSON")
    assert bench.sums() == {"accepted": 1, "rejected": 1}
    assert audit_entries(bench) == []


def test_one_letter_that_the_ledger_cannot_store_does_not_hold_the_others(bench: Bench):
    first, second = put_rejected(bench, 2)
    unstorable = '{"employeeId":"\ud800"}'

    done = mend(bench, now_read(first, unstorable), now_read(second, A))

    assert done.results == {first: Result.REJECTED, second: Result.REPAIRED}
    assert bench.rows("dead_letters")[0]["reject_reason"] == "unstorable"
    assert bench.sums() == {"accepted": 2, "pending": 1, "rejected": 1}
    assert len(audit_entries(bench)) == 1


def test_a_letter_that_is_not_rejected_any_more_is_left_alone(bench: Bench):
    (letter,) = put_rejected(bench)
    mend(bench, now_read(letter, A))

    assert mend(bench, now_read(letter, B), body=b"{}") == Repaired(results={letter: Result.CHANGED}, opened=[])
    assert mend(bench, now_read(letter)).results == {letter: Result.CHANGED}, "it is not rejected once more, either"
    assert [row["key"] for row in bench.rows("jobs")] == [A]
    assert bench.sums() == {"accepted": 1, "pending": 1}
    assert len(audit_entries(bench)) == 1


def test_two_repairs_at_once_repair_each_letter_once(bench: Bench):
    letters = put_rejected(bench, 40)
    bench.ledger.clock = DatabaseClock()
    other = bench.connect()
    other.clock = DatabaseClock()
    start = threading.Barrier(2)
    results: list[Result] = []
    balanced: list[bool] = []

    def run(ledger: Ledger, key: str, order: list[int]) -> None:
        start.wait(TEST_TIMEOUT)
        for at in range(0, len(order), 5):
            batch = [now_read(each, key, C) for each in order[at : at + 5]]
            results.extend(mend(bench, *batch, ledger=ledger).results.values())
            balanced.append(bench.audit().balanced)

    threads = [
        threading.Thread(target=run, args=(bench.ledger, A, letters)),
        threading.Thread(target=run, args=(other, B, letters[::-1])),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TEST_TIMEOUT)
    other.close()

    assert sorted(results) == [Result.CHANGED] * 40 + [Result.REPAIRED] * 40
    assert balanced == [True] * 16
    assert bench.seqs(C) == list(range(1, 41)), "one need each, whoever was first"
    assert bench.sums() == {"accepted": 40, "pending": 40}
    assert len(audit_entries(bench)) == 40


def test_prune_leaves_a_rejected_letter_and_takes_it_once_it_is_repaired_and_recovered(bench: Bench):
    (letter,) = put_rejected(bench)
    bench.clock.advance(3600)
    assert bench.do(prune_letters, before=bench.clock.now) == 0

    mend(bench, now_read(letter, A))
    bench.clock.advance(86_400)
    assert bench.do(prune_letters, before=bench.clock.now) == 0, "pending"
    bench.call()
    bench.clock.advance(86_400)
    assert bench.do(prune_letters, before=bench.clock.now) == 1
    assert bench.sums() == {"accepted": 1, "recovered": 1}
    assert mend(bench, now_read(letter, A)).results == {letter: Result.CHANGED}
    with pytest.raises(NotFound):
        bench.do(repairs.find_original_body, letter)


def test_prune_and_discard_beside_a_repair_lose_nothing(bench: Bench):
    """The job that a letter would attach to is discarded and pruned over and over, by another connection."""
    letters = put_rejected(bench, 60)
    bench.ledger.clock = DatabaseClock()
    other = bench.connect()
    other.clock = DatabaseClock()
    done = threading.Event()
    unbalanced: list[object] = []

    def clear() -> None:
        while not done.is_set():
            for row in bench.rows("jobs"):
                other.transact(
                    lambda tx, row=row: operations.discard(tx, row["id"], state=row["state"], last_seq=row["last_seq"])
                )
            other.transact(lambda tx: prune_letters(tx, before=1 << 50))
            other.transact(lambda tx: prune_jobs(tx, before=1 << 50))
            found = bench.audit()
            if not found.balanced:
                unbalanced.append(found.as_dict())

    thread = threading.Thread(target=clear)
    thread.start()
    results = [mend(bench, now_read(each, A)).results[each] for each in letters]
    done.set()
    thread.join(TEST_TIMEOUT)
    other.close()

    assert set(results) == {Result.REPAIRED}
    assert unbalanced == []
    sums = bench.sums()
    assert sums.pop("accepted") == 60
    assert sums.keys() <= {"pending", "discarded"}


def test_rejected_letters_are_found_by_source_reason_and_id_oldest_first(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    queue = put_rejected(bench, 3, body=b"x" * 10)
    topic = put_rejected(bench, 2, source="topic", stream="t/0", origin={"topic": "t"})
    bench.put(a_letter(A))

    def found(after: int = 0, **which: Any) -> list[int]:
        return [each.id for each in bench.do(repairs.find_next_batch, Selection(**which), after=after)]

    assert found() == queue + topic
    assert found(source="topic") == topic
    assert found(reason="no-match") == []
    assert found(ids=[queue[1], 999]) == [queue[1]]
    assert found(after=queue[0], until=topic[0]) == [*queue[1:], topic[0]]
    assert bench.do(repairs.count_by_reason, Selection()) == {"not-json": 5}
    assert bench.do(repairs.find_last, Selection(), limit=2) == queue[1]
    assert bench.do(repairs.find_last, Selection(source="nowhere")) == 0
    (record,) = [each.record for each in bench.do(repairs.find_next_batch, Selection(ids=[topic[0]]), after=0)]
    assert (record.stream, record.origin) == ("t/0", {"topic": "t"})

    monkeypatch.setattr(repairs, "BATCH_BYTES", 25)
    assert found() == queue[:2], "as many as memory holds"
    monkeypatch.setattr(repairs, "BATCH_BYTES", 5)
    assert found() == queue[:1], "a single one always"
