"""Pruning: what is over leaves the ledger, its sums stay; what a person may still want is never removed."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ledger_bench import SQLITE, URLS, A, B, Bench, C, D, a_letter, open_bench
from sqlalchemy import event

from tasks.dlq.calls.outcome import Outcome
from tasks.dlq.job import State
from tasks.dlq.ledger import Transaction, operations
from tasks.dlq.ledger.pruning import prune_jobs, prune_letters
from tasks.dlq.ledger.schema import ATTEMPTS_KEPT, attempts, jobs

A_DAY = 86400


@pytest.fixture(params=URLS)
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    yield from open_bench(request.param, tmp_path)


@pytest.fixture
def sqlite_bench(tmp_path: Path) -> Iterator[Bench]:
    yield from open_bench(SQLITE, tmp_path)


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
        pytest.skip("SQLite: a writer that reads has the only lock already; shown on PostgreSQL")
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


# --- what is kept ----------------------------------------------------------------------------------------------------


def parked(bench: Bench, count: int, *, first: int = 1000) -> list[int]:
    """Record so many letters about a key each, whose jobs are parked; return the jobs' ids."""
    keys = [f'{{"employeeId":"{number}"}}' for number in range(first, first + count)]
    bench.put(*[a_letter(key) for key in keys])
    bench.execute("UPDATE jobs SET state = 'parked' WHERE state = 'scheduled'")
    return [bench.job(key)["id"] for key in keys]


def recovered(bench: Bench, key: str = A) -> None:
    bench.put_due(key)
    bench.call()


def test_what_is_kept_is_looked_at_again_in_a_day_and_leaves_once_it_is_over(bench: Bench):
    (job_id,) = parked(bench, 1)
    bench.clock.advance(2 * A_DAY)
    assert prune(bench) == (0, 0)

    bench.do(operations.replay, job_id, state=State.PARKED, last_seq=1)
    bench.call()
    bench.clock.advance(A_DAY - 1)
    assert prune(bench) == (0, 0)
    bench.clock.advance(1)
    assert prune(bench)[0] == 1
    assert bench.sums() == {"accepted": 1, "recovered": 1}


def test_what_is_put_off_is_still_kept_for_as_long_as_asked(bench: Bench):
    (job_id,) = parked(bench, 1)
    bench.clock.advance(2 * A_DAY)
    prune(bench)
    bench.do(operations.replay, job_id, state=State.PARKED, last_seq=1)
    bench.call()
    bench.clock.advance(A_DAY)

    assert prune(bench, older=30 * A_DAY) == (0, 0)
    bench.clock.advance(28 * A_DAY)
    assert prune(bench, older=30 * A_DAY)[0] == 1


def test_what_is_kept_stands_in_nobodys_way(bench: Bench):
    parked(bench, 30)
    for key in (A, B, C):
        recovered(bench, key)
    bench.clock.advance(2 * A_DAY)

    assert [prune(bench, limit=2)[0] for _ in range(3)] == [2, 1, 0]


def test_a_prune_looks_at_a_bounded_number_and_the_next_one_goes_on(bench: Bench):
    parked(bench, 45)
    recovered(bench)
    bench.clock.advance(2 * A_DAY)

    assert [prune(bench, limit=2)[0] for _ in range(3)] == [0, 1, 0]


def steps(bench: Bench, work: Callable[[Transaction], Any]) -> int:
    """Return the steps of SQLite's virtual machine that the work takes: what it reads and writes, whatever the machine."""
    taken: list[None] = []

    def count(tx: Transaction) -> None:
        driver = tx.connection.connection.driver_connection
        assert driver is not None
        driver.set_progress_handler(lambda: taken.append(None), 1)
        work(tx)
        driver.set_progress_handler(None, 1)

    bench.do(count)
    return len(taken)


def cost_of_a_prune(bench: Bench) -> int:
    """Return the steps of a prune that removes one letter, beside what is kept."""
    recovered(bench)
    bench.clock.advance(A_DAY)
    prune(bench, older=0.001)
    recovered(bench)
    bench.clock.advance(0.002)
    before = bench.clock.now - 1
    cost = steps(bench, lambda tx: prune_letters(tx, before=before))
    assert bench.rows("tallies")[0]["recovered"] > 1
    return cost


def test_a_prune_costs_the_same_however_many_old_letters_are_kept(sqlite_bench: Bench):
    parked(sqlite_bench, 10)
    few = cost_of_a_prune(sqlite_bench)
    parked(sqlite_bench, 2000, first=5000)
    many = cost_of_a_prune(sqlite_bench)

    assert many < 1.1 * few, (few, many)


def test_a_prune_finds_its_letters_by_their_index(sqlite_bench: Bench):
    parked(sqlite_bench, 10)
    recovered(sqlite_bench)
    sqlite_bench.clock.advance(A_DAY)
    found: list[tuple[str, Any]] = []

    def note(_conn: object, _cursor: object, statement: str, parameters: Any, *_rest: object) -> None:
        if "dead_letters" in statement:
            found.append((statement, parameters))

    event.listen(sqlite_bench.ledger.engine, "before_cursor_execute", note)
    prune(sqlite_bench, older=0.001)
    event.remove(sqlite_bench.ledger.engine, "before_cursor_execute", note)

    with sqlite_bench.ledger.begin(read_only=True) as tx:
        plans = [
            [row[3] for row in tx.connection.exec_driver_sql("EXPLAIN QUERY PLAN " + statement, parameters)]
            for statement, parameters in found
        ]
    assert plans[0] == ["SEARCH dead_letters USING COVERING INDEX ix_dead_letters_kept (kept_until=? AND received_at<?)"]
    assert plans[1] == ["SEARCH dead_letters USING COVERING INDEX ix_dead_letters_kept (kept_until<?)"]
    assert not [step for plan in plans for step in plan if step.startswith("SCAN dead_letters") or "TEMP B-TREE" in step]


# --- the attempts of what never rests --------------------------------------------------------------------------------


def many_attempts(bench: Bench, key: str, calls: int) -> int:
    """Give a key's job so many ended attempts; return its id."""
    job_id = bench.put_due(key)
    rows = [
        {
            "job_id": job_id,
            "number": n,
            "token": f"{job_id}-{n}",
            "fence": n,
            "covers_seq": 1,
            "worker": "w",
            "outcome": "conflict",
        }
        for n in range(1, calls + 1)
    ]
    bench.do(lambda tx: tx.connection.execute(attempts.insert(), [row | {"began_at": bench.clock.now} for row in rows]))
    bench.execute("UPDATE jobs SET calls = :calls WHERE id = :id", calls=calls, id=job_id)
    return job_id


def numbers(bench: Bench, job_id: int) -> list[int]:
    return [row["number"] for row in bench.rows("attempts") if row["job_id"] == job_id]


def test_a_job_that_never_rests_keeps_its_newest_attempts(bench: Bench):
    hot, calm = many_attempts(bench, A, 150), many_attempts(bench, B, 100)
    assert prune(bench) == (0, 0)
    assert (len(numbers(bench, hot)), len(numbers(bench, calm))) == (150, 100)  # all are young

    bench.clock.advance(2 * A_DAY)
    prune(bench)

    assert numbers(bench, hot) == list(range(51, 151))
    assert numbers(bench, calm) == list(range(1, 101))
    bench.call()  # and goes on
    assert bench.job(A)["calls"] == 151


def test_attempts_are_looked_for_among_the_jobs_that_have_many(sqlite_bench: Bench):
    many_attempts(sqlite_bench, A, 150)
    for number in range(10, 20):
        many_attempts(sqlite_bench, f'{{"employeeId":"{number}"}}', 90)
    sqlite_bench.clock.advance(2 * A_DAY)
    prune(sqlite_bench)
    few = steps(sqlite_bench, lambda tx: prune_jobs(tx, before=sqlite_bench.clock.now - 1))
    for number in range(20, 60):
        many_attempts(sqlite_bench, f'{{"employeeId":"{number}"}}', 90)
    sqlite_bench.clock.advance(2 * A_DAY)
    many = steps(sqlite_bench, lambda tx: prune_jobs(tx, before=sqlite_bench.clock.now - 1))

    assert many < 1.1 * few, (few, many)


def test_the_index_of_the_jobs_that_have_many_attempts_says_how_many_are_kept():
    (index,) = [index for index in jobs.indexes if index.name == "ix_jobs_busy"]
    assert str(index.dialect_options["sqlite"]["where"]) == f"jobs.calls > {ATTEMPTS_KEPT}"
