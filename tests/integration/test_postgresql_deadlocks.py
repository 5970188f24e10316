"""Deadlocks on PostgreSQL: run again where they come, and made impossible where one order of locks can do it."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ledger_bench import EMPLOYEES, POSTGRESQL, A, B, Bench, a_letter, open_bench
from sqlalchemy import text
from waiting import TEST_TIMEOUT

from tasks.dlq.ledger import DatabaseClock, Transaction, rescue, wakeups
from tasks.dlq.ledger.routes import lock_route

ROUTE = replace(EMPLOYEES, delay=0.0, drain=0.0)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    for made in open_bench(POSTGRESQL, tmp_path):
        made.clock = made.ledger.clock = DatabaseClock()
        yield made


def cross(bench: Bench, first: list[str], second: list[str], *, tries: list[str]) -> None:
    """Update the jobs of two keys in two transactions, each in its own order, both having the first when they want the second."""
    meet = threading.Barrier(2)

    def work(tx: Transaction, keys: list[str]) -> None:
        tries.append(keys[0])
        for number, key in enumerate(keys):
            tx.connection.execute(text("UPDATE jobs SET calls = calls + 1 WHERE key = :key"), {"key": key})
            if number == 0 and len(tries) <= 2:
                meet.wait(TEST_TIMEOUT)

    threads = [threading.Thread(target=lambda keys=keys: bench.do(work, keys)) for keys in (first, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TEST_TIMEOUT)


def test_a_deadlock_is_run_again_and_never_comes_to_the_surface(bench: Bench):
    bench.put(a_letter(A, B))
    tries: list[str] = []
    cross(bench, [A, B], [B, A], tries=tries)
    assert len(tries) == 3  # one of the two was told to run again
    assert [row["calls"] for row in bench.rows("jobs")] == [2, 2]


def held_up(bench: Bench, keys: list[str], work: Any) -> list[str]:
    """Run `work` while an intake holds the keys one after the other; return the errors of both."""
    told: list[str] = []
    half, goes_on = threading.Event(), threading.Event()
    deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"

    def intake(tx: Transaction) -> None:
        for key in sorted(keys):
            tx.connection.execute(text("UPDATE jobs SET last_seq = last_seq WHERE key = :key"), {"key": key})
            half.set()
            goes_on.wait(0.3)  # until `work` waits for this key, or is through

    other = threading.Thread(target=lambda: bench.do(intake))
    other.start()
    assert half.wait(TEST_TIMEOUT)
    bench.do(work)
    goes_on.set()
    other.join(TEST_TIMEOUT)
    bench.ledger.engine.dispose()
    with bench.ledger.begin() as tx:
        tx.connection.execute(text("SELECT pg_stat_force_next_flush()"))
        told += ["deadlock"] * int(tx.connection.scalar(text(deadlocks)))
    return told


def both_executing(bench: Bench) -> None:
    """B's lease is the older: the rescue's order is not the keys'."""
    bench.route = replace(ROUTE, max_in_flight=2)
    bench.put_due(B)
    bench.put_due(A)
    bench.claimed()
    bench.claimed()
    bench.execute("UPDATE jobs SET lease_until = id")


def both_waiting(bench: Bench) -> None:
    """B is due before A: the bells' order is not the keys'."""
    bench.put_due(B)
    bench.put_due(A)
    bench.execute("UPDATE jobs SET due_at = id")


def test_the_rescue_and_an_intake_never_wait_for_each_other(bench: Bench):
    both_executing(bench)
    assert held_up(bench, [A, B], lambda tx: rescue.rescue(lock_route(tx, bench.route))) == []
    assert len(bench.rescue()) >= 1  # what the intake held is left for the next sweep


def test_bells_and_an_intake_never_wait_for_each_other(bench: Bench):
    both_waiting(bench)
    ids = [row["id"] for row in bench.rows("jobs")]
    assert held_up(bench, [A, B], lambda tx: wakeups.reserve_wakeups(lock_route(tx, bench.route), ids)) == []


def test_bells_in_the_order_of_their_due_times_would_meet_an_intake(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    both_waiting(bench)
    monkeypatch.setattr(wakeups, "sorted", lambda rows, **_: list(rows), raising=False)
    ids = [row["id"] for row in bench.rows("jobs")]
    assert held_up(bench, [A, B], lambda tx: wakeups.reserve_wakeups(lock_route(tx, bench.route), ids)) == ["deadlock"]
