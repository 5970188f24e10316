"""Pruning: what is over leaves the ledger, its sums stay; what a person may still want is never removed."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from ledger_bench import URLS, A, B, Bench, C, D, a_letter, open_bench
from sqlalchemy import event

from tasks.dlq.job import State
from tasks.dlq.ledger import Transaction, operations
from tasks.dlq.ledger.pruning import prune_jobs, prune_letters
from tasks.dlq.retry import Outcome

A_DAY = 86400


@pytest.fixture(params=URLS)
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    yield from open_bench(request.param, tmp_path)


def prune(bench: Bench, *, older: float = A_DAY, limit: int = 500) -> tuple[int, int]:
    before = bench.clock.now - round(older * 1000)
    return bench.do(prune_letters, before=before, limit=limit), bench.do(prune_jobs, before=before, limit=limit)


def one_of_each(bench: Bench) -> None:
    """Record a letter of each standing: recovered, parked, discarded, rejected, pending."""
    bench.put_due(A)
    bench.call()
    bench.put_due(B)
    bench.call(Outcome.HOPELESS)
    job_id = bench.put_due(C)
    bench.do(operations.discard, job_id, state=State.SCHEDULED, last_seq=1)
    bench.put(a_letter(), a_letter(D))


ONE_OF_EACH = {"accepted": 5, "recovered": 1, "pending": 1, "parked": 1, "discarded": 1, "rejected": 1}


def test_sums_move_to_the_tallies_and_the_audit_stays_the_same(bench: Bench):
    one_of_each(bench)
    assert bench.sums() == ONE_OF_EACH
    bench.clock.advance(2 * A_DAY)

    assert prune(bench) == (2, 2)

    assert bench.sums() == ONE_OF_EACH
    (tally,) = bench.rows("tallies")
    assert (tally["accepted"], tally["recovered"], tally["discarded"]) == (5, 1, 1)
    assert prune(bench) == (0, 0)


def test_what_is_parked_pending_or_rejected_is_never_removed(bench: Bench):
    one_of_each(bench)
    bench.clock.advance(1000 * A_DAY)
    prune(bench)

    assert sorted(row["state"] for row in bench.rows("jobs")) == ["parked", "scheduled"]
    assert len(bench.rows("dead_letters")) == 3


def test_nothing_young_is_removed(bench: Bench):
    one_of_each(bench)
    bench.clock.advance(A_DAY)

    assert prune(bench) == (0, 0)
    bench.clock.advance(0.001)
    assert prune(bench) == (2, 2)


def test_a_letter_with_one_need_left_is_not_over(bench: Bench):
    bench.put_due(A, B)
    bench.call()
    bench.clock.advance(2 * A_DAY)

    assert prune(bench) == (0, 0)


def test_a_job_that_a_younger_letter_needs_is_kept(bench: Bench):
    bench.put_due(A)
    bench.call()
    bench.clock.advance(2 * A_DAY)
    bench.put_due(A)
    bench.call()

    assert prune(bench) == (1, 0)
    assert bench.sums() == {"accepted": 2, "recovered": 2}


def test_sums_stay_with_their_source_and_stream(bench: Bench):
    bench.put(a_letter(A, stream="orders/0"), a_letter(A, stream="orders/1"), a_letter(A, source="topic"), delay=0.0)
    bench.call()
    bench.clock.advance(2 * A_DAY)
    prune(bench)

    assert {(row["source"], row["stream"]): row["recovered"] for row in bench.rows("tallies")} == {
        ("queue", "orders/0"): 1,
        ("queue", "orders/1"): 1,
        ("topic", ""): 1,
    }


def test_a_prune_is_bounded_and_goes_on_where_it_ended(bench: Bench):
    bench.put(*[a_letter(A) for _ in range(5)], delay=0.0)
    bench.call()
    bench.clock.advance(2 * A_DAY)

    assert [prune(bench, limit=2)[0] for _ in range(4)] == [2, 2, 1, 0]
    assert bench.sums() == {"accepted": 5, "recovered": 5}


def test_a_job_goes_with_its_attempts(bench: Bench):
    bench.put_due(A)
    bench.call()
    bench.clock.advance(2 * A_DAY)
    prune(bench)

    assert bench.rows("attempts") == bench.rows("jobs") == bench.rows("needs") == []


def test_the_fence_of_a_key_grows_even_when_its_job_was_pruned_and_made_anew(bench: Bench):
    bench.put_due(A)
    first = bench.claimed()
    bench.settle(first)
    bench.clock.advance(2 * A_DAY)
    assert prune(bench) == (1, 1)

    bench.put_due(A)
    second = bench.claimed()

    assert second.job_id != first.job_id
    assert second.fence > first.fence


def test_two_sweeps_that_prune_at_once_move_each_sum_once(bench: Bench):
    """Where the database lets both read the same rows (PostgreSQL), only what a sweep itself removed may count."""
    if bench.sqlite:
        pytest.skip("SQLite: a writer that reads has the only lock already; shown where REDRIVE_TEST_POSTGRESQL is set")
    bench.put(*[a_letter(A) for _ in range(5)], delay=0.0)
    bench.call()
    bench.clock.advance(2 * A_DAY)
    other, done = bench.connect(), []

    def between(_conn: object, _cursor: object, statement: str, *_rest: object) -> None:
        if statement.startswith("DELETE") and not done:
            done.append(True)
            done.append(other.transact(lambda tx: prune_letters(tx, before=bench.clock.now)))

    event.listen(bench.ledger.engine, "before_cursor_execute", between)
    mine = bench.do(lambda tx: prune_letters(tx, before=bench.clock.now))
    event.remove(bench.ledger.engine, "before_cursor_execute", between)
    other.close()

    assert (done, mine) == ([True, 5], 0)
    assert bench.sums() == {"accepted": 5, "recovered": 5}


def test_prune_takes_no_more_than_a_transaction(bench: Bench):
    one_of_each(bench)
    bench.clock.advance(2 * A_DAY)

    def interrupted(tx: Transaction) -> None:
        prune_letters(tx, before=bench.clock.now)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bench.do(interrupted)
    assert bench.sums() == ONE_OF_EACH
