"""Real contention: threads and processes on one ledger never exceed `max_in_flight`, and lose nothing."""

import multiprocessing
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from ledger_bench import EMPLOYEES, URLS, A, B, Bench, a_letter, count_unsettled, open_bench
from waiting import TEST_TIMEOUT

from tasks.dlq.calls.outcome import CallEnd, Outcome
from tasks.dlq.calls.retry import Decision, Verdict
from tasks.dlq.calls.route import Route
from tasks.dlq.job import Claim, State
from tasks.dlq.ledger import DatabaseClock, Ledger, Transaction
from tasks.dlq.ledger.claims import claim
from tasks.dlq.ledger.dead_letters import record_dead_letters
from tasks.dlq.ledger.routes import lock_route
from tasks.dlq.ledger.settlement import settle

JOBS = 24


@pytest.fixture(params=URLS)
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    for made in open_bench(request.param, tmp_path):
        made.ledger.clock = DatabaseClock()
        yield made


def work_off(url: str, route: Route, worker: str, call: threading.Event | None = None) -> list[tuple[int, int]]:
    """Settle and claim in one transaction, as workers do, until nothing is left. Return (job, fence) of each call."""
    ledger = Ledger(url)
    done = []

    def go_on(tx: Transaction, held: Claim | None) -> Claim | None:
        locked = lock_route(tx, route)
        if held is not None:
            settle(locked, held, CallEnd(outcome=Outcome.SUCCESS, status=200), Decision(verdict=Verdict.COMPLETE))
        return claim(locked, worker=worker)

    held = None
    while True:
        held = ledger.transact(lambda tx, held=held: go_on(tx, held))
        if held is not None:
            done.append((held.job_id, held.fence))
        elif not ledger.transact(count_unsettled):
            break
        if call:
            call.wait(0.001)  # the call, or a moment until a slot is free: never set
    ledger.close()
    return done


def most_open(bench: Bench) -> int:
    """Return the most attempts that were open at once: each begins with its claim and ends with its settle, under one lock."""
    edges = []
    for row in bench.rows("attempts"):
        edges += [(row["began_at"], 1, row["fence"]), (row["ended_at"], 0, row["fence"])]
    open_now = most = 0
    for _, begins, _ in sorted(edges):  # within one millisecond ends come first: a slot is given on in its settle's transaction
        open_now += 1 if begins else -1
        most = max(most, open_now)
    return most


@pytest.mark.parametrize("limit", [1, 2])
def test_threads_never_exceed_the_limit_and_call_each_job_once(bench: Bench, limit: int):
    route = replace(EMPLOYEES, max_in_flight=limit)
    bench.put(*[a_letter(f'{{"employeeId":"{n}"}}') for n in range(JOBS)], delay=0.0)
    start, never = threading.Barrier(4), threading.Event()
    results: list[list[tuple[int, int]]] = []

    def run(name: str) -> None:
        start.wait(TEST_TIMEOUT)
        results.append(work_off(bench.url, route, name, never))

    threads = [threading.Thread(target=run, args=(f"w{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TEST_TIMEOUT)

    calls = [call for result in results for call in result]
    assert len(results) == 4
    assert len({job for job, _ in calls}) == len(calls) == JOBS
    assert len({fence for _, fence in calls}) == JOBS
    assert most_open(bench) <= limit
    assert bench.sums() == {"accepted": JOBS, "recovered": JOBS}


def test_processes_never_exceed_the_limit_while_letters_come_in(bench: Bench):
    context = multiprocessing.get_context("spawn")
    bench.put(*[a_letter(f'{{"employeeId":"{n}"}}') for n in range(JOBS)], delay=0.0)
    workers = [context.Process(target=work_off, args=(bench.url, EMPLOYEES, f"w{n}")) for n in range(2)]
    for process in workers:
        process.start()
    for n in range(10):
        bench.put(a_letter(A, f'{{"employeeId":"{n + 10}"}}'), delay=0.0)
    for process in workers:
        process.join(TEST_TIMEOUT)

    assert [process.exitcode for process in workers] == [0, 0]
    work_off(bench.url, replace(EMPLOYEES, delay=0.0), "the last")  # whatever came after both saw that nothing was left
    assert most_open(bench) == 1
    assert bench.sums() == {"accepted": JOBS + 10, "recovered": JOBS + 10}


def test_letters_that_overlap_come_in_side_by_side(bench: Bench):
    """Batches about {A, B} and {B, A}: keys are locked in one order, so that nobody waits for each other."""
    other = bench.connect()
    other.clock = DatabaseClock()
    start = threading.Barrier(2)
    accepted = []

    def intake(ledger: Ledger, keys: tuple[str, str]) -> None:
        start.wait(TEST_TIMEOUT)
        for _ in range(15):
            batch = [a_letter(*keys) for _ in range(3)]
            done = ledger.transact(lambda tx, batch=batch: record_dead_letters(tx, batch, delays={"employees": 0.0}))
            accepted.append(done.accepted)

    threads = [threading.Thread(target=intake, args=args) for args in ((bench.ledger, (A, B)), (other, (B, A)))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TEST_TIMEOUT)
    other.close()

    assert sum(accepted) == 90
    assert bench.seqs(A) == bench.seqs(B) == list(range(1, 91))
    assert bench.state() is State.SCHEDULED
