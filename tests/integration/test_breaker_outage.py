"""What an outage costs: no job an attempt, one probe at a time, and seconds after the API's return. By the API's own log."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from fleet import HANGS, NETWORK_DOWN, OK, SWEEP, UNAVAILABLE, Fleet
from ledger_bench import EMPLOYEES, URLS, Bench, open_bench

from tasks.dlq.calls.api import Answer, SyncResult
from tasks.dlq.calls.retry import RetryPolicy
from tasks.dlq.job import State
from tasks.dlq.ledger import operations
from tasks.dlq.parameters import Integer

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ROUTE = replace(
    EMPLOYEES,
    params={"employeeId": Integer(positive=True)},
    delay=1.0,
    retry=RetryPolicy(max_attempts=3, base=2.0, cap=8.0),
)
INTERVAL = ROUTE.probe_interval
FIVE_MINUTES = 300.0


@pytest.fixture(params=URLS)
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    yield from open_bench(request.param, tmp_path)


def go_down(fleet: Fleet, how: SyncResult, employees: range) -> float:
    """Let the API go down with these employees waiting; return when it did. The breaker is open."""
    fleet.answer = lambda _: how
    fleet.submit(employees)
    began = fleet.now
    fleet.run_until(fleet.breaker_open, began + 60)
    assert fleet.breaker_open()
    return began


def come_back(fleet: Fleet) -> float:
    fleet.answer = lambda _: OK
    return fleet.now


@pytest.mark.parametrize(("how", "limit"), [(UNAVAILABLE, 3), (NETWORK_DOWN, 1)], ids=["503", "refused"])
def test_ten_minutes_cost_no_job_an_attempt_and_end_within_a_probe_and_a_second(bench: Bench, how: SyncResult, limit: int):
    fleet = Fleet(bench, replace(ROUTE, max_in_flight=limit))
    go_down(fleet, how, range(1, 21))

    for minute in range(10):
        fleet.submit(range(100 + minute, 101 + minute))
        fleet.run(60 + 0.37)
        assert fleet.attempts() == 0
        assert fleet.states() <= {State.SCHEDULED, State.RETRYABLE}
    back = come_back(fleet)
    fleet.run(60)

    after = fleet.calls_between(back, fleet.now)
    assert after[0].begin - back <= INTERVAL + 1
    assert after[-1].begin - after[0].begin <= 1 + SWEEP  # the backlog flows at once
    assert bench.sums() == {"accepted": 30, "recovered": 30}


@pytest.mark.parametrize("moment", [0.1, 1.7, 4.9])
def test_the_first_call_comes_in_time_whenever_the_api_returns(bench: Bench, moment: float):
    fleet = Fleet(bench, ROUTE)
    go_down(fleet, UNAVAILABLE, range(1, 4))
    fleet.run(30 + moment)
    back = come_back(fleet)
    fleet.run(60)

    assert fleet.calls_between(back, fleet.now)[0].begin - back <= INTERVAL + 1


def test_no_sweep_is_needed_for_the_probes(bench: Bench):
    """Each probe rings for the next."""
    fleet = Fleet(bench, ROUTE)
    go_down(fleet, UNAVAILABLE, range(1, 4))
    fleet.beats = False
    fleet.run(60)
    back = come_back(fleet)
    fleet.run(10)

    assert fleet.calls_between(back, fleet.now)[0].begin - back <= INTERVAL + 1


def test_probes_go_one_at_a_time_over_all_workers_and_rotate_over_the_due_keys(bench: Bench):
    fleet = Fleet(bench, replace(ROUTE, max_in_flight=3))
    go_down(fleet, UNAVAILABLE, range(1, 13))
    opened, fleet.most_open = fleet.now, 0
    fleet.run(FIVE_MINUTES)

    probes = fleet.calls_between(opened, fleet.now)
    assert fleet.most_open == 1
    assert min(later.begin - earlier.begin for earlier, later in pairwise(probes)) >= INTERVAL
    assert FIVE_MINUTES / (INTERVAL + 1) <= len(probes) <= FIVE_MINUTES / INTERVAL + 1
    for start in range(0, len(probes) - 12, 12):
        assert len({probe.employee for probe in probes[start : start + 12]}) >= 11  # one may rest when its turn comes
    assert len({probe.worker for probe in probes}) > 1


def test_wake_ups_stay_few_while_the_breaker_is_open(bench: Bench):
    fleet = Fleet(bench, ROUTE)
    go_down(fleet, UNAVAILABLE, range(1, 201))
    fleet.run(10)
    before = fleet.sent, len(fleet.calls)
    fleet.run(FIVE_MINUTES)

    assert fleet.sent - before[0] <= 2 * (len(fleet.calls) - before[1]) + 2
    assert len(fleet.messages) <= ROUTE.window


def test_an_api_that_hangs_costs_no_job_an_attempt_either(bench: Bench):
    fleet = Fleet(bench, ROUTE)
    go_down(fleet, HANGS, range(1, 11))
    fleet.run(FIVE_MINUTES)
    assert fleet.attempts() == 0
    back = come_back(fleet)
    fleet.run(120)

    assert fleet.calls_between(back, fleet.now)[0].begin - back <= max(INTERVAL, ROUTE.drain) + 1
    assert bench.sums() == {"accepted": 10, "recovered": 10}


def test_the_state_outlives_every_worker_and_all_messages_and_nobody_calls_more(bench: Bench):
    fleet = Fleet(bench, replace(ROUTE, max_in_flight=3))
    go_down(fleet, UNAVAILABLE, range(1, 51))
    fleet.run(31)
    for _ in range(4):
        fleet.messages.clear()
        fleet.start(4)
        since = fleet.now
        fleet.run(29)
        assert 1 <= len(fleet.calls_between(since, fleet.now)) <= 29 / INTERVAL + 1
    fleet.messages.clear()
    back = come_back(fleet)
    fleet.run(120)

    assert (
        fleet.calls_between(back, fleet.now)[0].begin - back <= INTERVAL + 2 * SWEEP + 1
    )  # the lost bell was for the next probe
    assert bench.sums() == {"accepted": 50, "recovered": 50}


# --- a poisoned key --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("limit", [1, 2])
@pytest.mark.parametrize("how", [SyncResult(answer=Answer.ANSWERED, status=500), HANGS], ids=["500", "hangs"])
def test_a_single_poisoned_key_never_opens_it_and_holds_nobody(bench: Bench, how: SyncResult, limit: int):
    fleet = Fleet(bench, replace(ROUTE, max_in_flight=limit))
    fleet.answer = lambda employee: how if employee == 7 else OK
    for start in range(0, 100, 10):
        fleet.submit(range(start + 1, start + 11))
        fleet.run_until(fleet.breaker_open, fleet.now + 60)
        assert not fleet.breaker_open()
        held = bench.sums()
        assert held["recovered"] + held.get("parked", 0) + held.get("pending", 0) == held["accepted"] == start + 10
        assert held["recovered"] == start + 9  # all but the one

    assert bench.state('{"employeeId":"7"}') is State.PARKED
    assert sum(call.employee == 7 for call in fleet.calls) == ROUTE.retry.max_attempts


def test_a_poisoned_key_behind_an_open_breaker_holds_nobody_once_the_api_is_back(bench: Bench):
    fleet = Fleet(bench, ROUTE)
    go_down(fleet, UNAVAILABLE, range(1, 11))
    fleet.run(60)
    fleet.answer = lambda employee: UNAVAILABLE if employee == 3 else OK
    back = fleet.now
    fleet.run(2 * (INTERVAL + 1))
    assert bench.sums()["recovered"] == 9
    assert next(call for call in fleet.calls_between(back, fleet.now) if call.status == 200).begin - back <= 2 * (INTERVAL + 1)
    fleet.run(60)

    assert bench.state('{"employeeId":"3"}') is State.PARKED


# --- pause -----------------------------------------------------------------------------------------------------------


def test_a_paused_route_makes_no_call_and_rings_nothing_while_intake_goes_on(bench: Bench):
    fleet = Fleet(bench, ROUTE)
    fleet.answer = lambda employee: SyncResult(answer=Answer.ANSWERED, status=400 if employee == 1 else 409)
    fleet.submit([1, 2, 3])
    fleet.run(1.5)
    assert bench.state('{"employeeId":"1"}') is State.PARKED
    assert bench.state('{"employeeId":"2"}') is State.RETRYABLE
    bench.pause(by="ops", reason="a deploy")
    sent, calls = fleet.sent, len(fleet.calls)

    parked = bench.job('{"employeeId":"1"}')
    assert bench.do(operations.replay, parked["id"], state=State.PARKED, last_seq=parked["last_seq"])
    fleet.submit(range(2, 30))
    fleet.run(3600)

    assert (fleet.sent, len(fleet.calls)) == (sent, calls)
    assert bench.sums() == {"accepted": 31, "pending": 31}

    fleet.answer = lambda _: OK
    bench.resume()
    resumed = fleet.now
    fleet.run(2 * SWEEP)
    assert fleet.calls_between(resumed, fleet.now)[0].begin - resumed <= SWEEP + 1  # by a sweep; `redrive resume` rings itself
    assert bench.sums() == {"accepted": 31, "recovered": 31}


@pytest.mark.parametrize("status", [401, 403])
def test_refused_credentials_pause_at_once_and_cost_nothing(bench: Bench, status: int):
    fleet = Fleet(bench, ROUTE)
    fleet.answer = lambda _: SyncResult(answer=Answer.ANSWERED, status=status, detail=f"HTTP {status}")
    fleet.submit(range(1, 31))
    fleet.run(1800)

    assert len(fleet.calls) == 1
    assert fleet.attempts() == 0
    assert bench.sums() == {"accepted": 30, "pending": 30}
