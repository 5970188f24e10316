"""The rescue: leases that ran out come back after the API had its time; a job may kill a bounded number of workers."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from doubles.manual_clock import ManualClock
from ledger_bench import EMPLOYEES, URLS, A, B, Bench, C, a_letter, open_bench
from structlog.testing import capture_logs

from tasks.dlq.calls.outcome import Outcome
from tasks.dlq.calls.retry import MAX_CRASHES, Decision, Verdict
from tasks.dlq.job import State
from tasks.dlq.ledger import DatabaseClock, Ledger, Transaction, rescue
from tasks.dlq.ledger.routes import lock_route

LONG_DRAIN = replace(EMPLOYEES, drain=60.0)


@pytest.fixture(params=URLS)
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    yield from open_bench(request.param, tmp_path)


def crash(bench: Bench) -> None:
    """Claim, and never come back."""
    held = bench.claimed()
    bench.clock.advance(bench.route.lease)
    assert bench.rescue() == [held.job_id]
    bench.clock.advance(bench.route.drain)


def test_a_lease_is_left_alone_until_it_has_run_out(bench: Bench):
    bench.put_due(A)
    bench.claimed()
    bench.clock.advance(bench.route.lease - 0.001)
    assert bench.rescue() == []
    bench.clock.advance(0.001)
    assert bench.rescue() == [bench.job(A)["id"]]
    assert bench.rescue() == []


def test_a_rescued_job_waits_again_and_its_attempt_is_lost(bench: Bench):
    bench.put_due(A)
    bench.claimed()
    bench.clock.advance(3600)
    bench.rescue()

    row = bench.job(A)
    assert (row["state"], row["token"], row["lease_until"], row["outcome"]) == ("retryable", None, None, "lost")
    (attempt,) = bench.rows("attempts")
    assert (attempt["outcome"], attempt["ended_at"]) == ("lost", bench.clock.now)


def test_key_and_slot_rest_for_the_drain_after_the_last_call_that_the_lease_allowed(bench: Bench):
    bench.route = LONG_DRAIN
    bench.put_due(A)
    bench.put_due(B)
    bench.claimed()
    bench.clock.advance(bench.route.lease)
    bench.rescue()

    bench.clock.advance(bench.route.drain - 0.001)
    assert bench.claim() is None
    bench.clock.advance(0.001)
    assert bench.claim() is not None


def test_however_late_a_rescue_comes_key_and_slot_rest_for_the_drain(bench: Bench):
    bench.route = LONG_DRAIN
    bench.put_due(A)
    bench.put_due(B)
    bench.claimed()
    bench.clock.advance(3600)
    bench.rescue()

    bench.clock.advance(bench.route.drain - 0.001)
    assert bench.claim() is None
    bench.clock.advance(0.001)
    assert bench.claim() is not None


# --- a clock that is stepped -----------------------------------------------------------------------------------------


def test_after_a_step_nobody_calls_until_the_call_that_is_still_open_must_be_over(bench: Bench):
    """The lease is over by the ledger's clock, although it was given a moment ago."""
    bench.put_due(A)
    bench.put_due(B)
    held = bench.claimed()
    bench.clock.step(3600)
    assert bench.rescue() == [held.job_id]

    bench.clock.advance(bench.route.lease + bench.route.drain - 0.001)
    assert bench.claim() is None
    assert bench.settle(held).state is None  # the call that was open all the time
    assert bench.sums() == {"accepted": 2, "recovered": 1, "pending": 1}
    bench.clock.advance(0.001)
    assert bench.claim() is not None


def test_what_has_been_seen_of_a_lease_since_the_step_need_not_be_waited_for_again(bench: Bench):
    bench.put_due(A)
    bench.claimed()
    bench.clock.step(bench.route.lease - 7)
    bench.rescue()  # sees the step, but the lease still lasts
    bench.clock.advance(7)
    assert bench.rescue() == [bench.job(A)["id"]]

    bench.clock.advance(bench.route.lease - 7 + bench.route.drain - 0.001)
    assert bench.claim() is None
    bench.clock.advance(0.001)
    assert bench.claim() is not None


def test_a_process_that_has_just_started_cannot_know_of_a_step(bench: Bench):
    bench.put_due(A)
    bench.claimed()
    bench.clock.step(3600)
    other = Ledger(bench.url, clock=ManualClock(bench.clock.now))
    assert len(other.transact(lambda tx: rescue.rescue(lock_route(tx, bench.route)))) == 1
    other.close()

    bench.clock.advance(bench.route.lease + bench.route.drain - 0.001)
    assert bench.claim() is None
    bench.clock.advance(0.001)
    assert bench.claim() is not None


@pytest.mark.parametrize("step", [-3600, 1.0], ids=["a step back", "what the margin bears"])
def test_what_makes_no_lease_shorter_than_it_says_costs_nothing(bench: Bench, step: float):
    bench.put_due(A)
    bench.claimed()
    bench.clock.step(step)
    bench.clock.advance(bench.route.lease + max(-step, 0))
    bench.rescue()

    bench.clock.advance(bench.route.drain)
    assert bench.claim() is not None


def test_a_step_long_ago_costs_nothing(bench: Bench):
    bench.put_due(A)
    bench.clock.step(3600)
    crash(bench)

    assert bench.claim() is not None


@pytest.fixture
def ticks() -> list[float]:
    """Hold the seconds by the clock that nobody sets."""
    return [1000.0]


@pytest.fixture
def clock(bench: Bench, ticks: list[float]) -> DatabaseClock:
    bench.ledger.clock = DatabaseClock(elapsed=lambda: ticks[0])
    return bench.ledger.clock


def test_a_process_watches_the_databases_clock_by_one_of_its_own(bench: Bench, clock: DatabaseClock, ticks: list[float]):
    """Instead of the database's clock its counterpart is moved: against a step it seems to stand."""
    assert clock.steady_for() == 0.0
    bench.do(Transaction.now)
    ticks[0] += 50
    bench.do(Transaction.now)
    ticks[0] += 50
    bench.do(Transaction.now)
    assert bench.do(Transaction.steady_for) == clock.steady_for() == 100.0

    ticks[0] -= 3600  # the database has gone on by an hour more than this process
    with capture_logs() as logs:
        bench.do(Transaction.now)
    assert clock.steady_for() == 0.0
    (entry,) = logs
    assert (entry["log_level"], round(entry["seconds"], -2)) == ("warning", 3600)

    ticks[0] += 7
    bench.do(Transaction.now)
    assert clock.steady_for() == 7.0


def test_of_a_clock_that_was_not_looked_at_for_long_nothing_is_known(bench: Bench, clock: DatabaseClock, ticks: list[float]):
    """It may have gone back, had a lease given, and gone forth again."""
    bench.do(Transaction.now)
    for gap, steady in ((60.0, 60.0), (1.0, 61.0), (60.5, 0.0), (7.0, 7.0)):
        ticks[0] += gap
        with capture_logs() as logs:
            bench.do(Transaction.now)
        assert (clock.steady_for(), logs) == (steady, [])


def test_a_crash_spends_no_attempt_but_is_counted(bench: Bench):
    bench.put_due(A)
    crash(bench)

    assert [bench.job(A)[name] for name in ("attempts", "misses", "crashes", "calls")] == [0, 0, 1, 1]


def test_a_job_that_kills_its_worker_each_time_is_parked_in_a_failure_group_of_its_own(bench: Bench):
    bench.put_due(A)
    for _ in range(MAX_CRASHES):
        assert bench.state() in {State.SCHEDULED, State.RETRYABLE}
        crash(bench)

    assert (bench.state(), bench.job(A)["crashes"]) == (State.PARKED, MAX_CRASHES)
    assert bench.job(A)["group_key"]
    assert bench.sums() == {"accepted": 1, "parked": 1}


def test_crashes_are_counted_in_a_row(bench: Bench):
    bench.put_due(A)
    for _ in range(MAX_CRASHES - 1):
        crash(bench)
    bench.call(Outcome.CONFLICT, Decision(verdict=Verdict.RETRY))

    crash(bench)

    assert (bench.state(), bench.job(A)["crashes"]) == (State.RETRYABLE, 1)


def test_the_last_crash_with_news_starts_anew_instead_of_parking(bench: Bench):
    bench.put_due(A)
    bench.call(Outcome.NOT_SENT)
    bench.clock.advance(60)
    for _ in range(MAX_CRASHES - 1):
        crash(bench)
    bench.claimed()
    bench.put(a_letter(A))
    bench.clock.advance(bench.route.lease)
    bench.rescue()

    assert bench.state() is State.SCHEDULED
    assert [bench.job(A)[name] for name in ("attempts", "misses", "crashes")] == [0, 0, 0]
    assert bench.due_in() >= bench.route.delay


def test_the_oldest_leases_come_first_and_not_more_than_asked_for(bench: Bench):
    bench.route = replace(EMPLOYEES, max_in_flight=3)
    held = []
    for key in (A, B, C):
        bench.put_due(key)
        held.append(bench.claimed())
        bench.clock.advance(1)
    bench.clock.advance(3600)

    assert bench.on_route(rescue.rescue, limit=2) == [held[0].job_id, held[1].job_id]
    assert bench.rescue() == [held[2].job_id]


def test_the_other_routes_leases_are_theirs(bench: Bench):
    bench.put(a_letter(A, route="companies"), delay=0.0)
    bench.claimed(route=replace(EMPLOYEES, name="companies"))
    bench.clock.advance(3600)

    assert bench.rescue() == []
