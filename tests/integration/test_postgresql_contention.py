"""Many processes on one PostgreSQL: no call overlaps another of its key, nor more than the route's limit; nothing is lost."""

import multiprocessing
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from ledger_bench import POSTGRESQL, A, B, Bench, C, D, a_letter, open_bench
from postgresql_processes import LETTERS, Call, Shared, read_diary, take_in, work
from sqlalchemy import select, text
from waiting import TEST_TIMEOUT

from tasks.dlq.calls.route import Route
from tasks.dlq.ledger import DatabaseClock, Transaction, claims
from tasks.dlq.ledger.routes import LockedRoute, ensure_routes, lock_route
from tasks.dlq.ledger.schema import routes

DUE, BATCHES = 50, 10


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    for made in open_bench(POSTGRESQL, tmp_path):
        made.ledger.clock = DatabaseClock()
        yield made


def run(bench: Bench, limit: int, folder: Path) -> list[Call]:
    """Let four workers and two intakes run to the end; return all calls, and fail where a process did."""
    bench.put(*[a_letter(f'{{"employeeId":"{number}"}}') for number in range(1, DUE + 1)], delay=0.0)
    context = multiprocessing.get_context("spawn")
    shared = Shared(bench.url, limit, context.Barrier(2 + 4), context.Barrier(2), context.Event())
    diaries = [folder / f"w{n}.jsonl" for n in range(4)]
    intakes = [context.Process(target=take_in, args=(shared, f"i{n}", BATCHES, n)) for n in range(2)]
    workers = [context.Process(target=work, args=(shared, f"w{n}", diaries[n], n)) for n in range(4)]
    for process in [*intakes, *workers]:
        process.start()
    for process in intakes:
        process.join(TEST_TIMEOUT)
    shared.all_in.set()
    for process in workers:
        process.join(TEST_TIMEOUT)
    assert {process.exitcode for process in [*intakes, *workers]} == {0}  # no deadlock, nor anything else, came to the surface
    return [call for diary in diaries for call in read_diary(diary)]


def most_open(calls: list[Call]) -> tuple[int, int]:
    """Return the most calls that were open at once, and the most of one key."""
    edges = sorted([(call.begin, 1, call.key) for call in calls] + [(call.end, -1, call.key) for call in calls])
    now: Counter[str] = Counter()
    most = most_of_a_key = 0
    for _, change, key in edges:
        now[key] += change
        most, most_of_a_key = max(most, now.total()), max(most_of_a_key, now[key])
    return most, most_of_a_key


@pytest.mark.parametrize("limit", [1, 3])
def test_processes_keep_to_one_call_a_key_and_to_the_limit_exactly(bench: Bench, limit: int, tmp_path: Path):
    calls = run(bench, limit, tmp_path)

    most, most_of_a_key = most_open(calls)
    assert most_of_a_key == 1
    assert most <= limit
    assert most > 1 or limit == 1
    accepted = DUE + 2 * BATCHES * LETTERS
    assert bench.sums() == {"accepted": accepted, "recovered": accepted}
    assert len(bench.rows("attempts")) == len(calls)


def read_without_lock(tx: Transaction, route: Route) -> LockedRoute:
    return LockedRoute(tx, route, tx.connection.execute(select(routes)).mappings().one())


@pytest.mark.parametrize("limit", [1, 3])
def test_without_the_routes_lock_the_limit_is_exceeded(bench: Bench, limit: int, monkeypatch: pytest.MonkeyPatch):
    """Two that claim the last slot at the same moment: only the lock on the route keeps the second from counting too early."""
    bench.route = replace(bench.route, max_in_flight=limit)
    for key in [A, B, C, D][: limit + 1]:
        bench.put_due(key)
    bench.do(ensure_routes, ["employees"])
    for _ in range(limit - 1):
        bench.claimed()
    other = bench.connect()
    other.clock = DatabaseClock()

    def both(lock: Callable[[Transaction, Route], LockedRoute]) -> list[bool]:
        with bench.ledger.begin() as first:
            held = [claims.claim(lock(first, bench.route), worker="w") is not None]
            with other.begin() as second:
                second.connection.execute(text("SET LOCAL lock_timeout = '100ms'"))
                held.append(claims.claim(lock(second, bench.route), worker="w") is not None)
        return held

    with pytest.raises(Exception, match="lock timeout"):  # the second waits for the first
        both(lock_route)
    monkeypatch.setattr(claims, "_lease", lambda *_args, **_rest: True)
    assert both(read_without_lock) == [True, True]
    other.close()


def test_times_are_the_servers_own(bench: Bench):
    """The clock is read at the statement, not at the transaction's begin: what waited for a lock sees the present."""
    with bench.ledger.begin() as tx:
        before = tx.now()
        tx.connection.execute(text("SELECT pg_sleep(0.05)"))
        assert tx.now() - before >= 50
    assert abs(before / 1000 - time.time()) < 60
