"""The bounded doorbell: at most a window of wake-ups is out, and losing them all costs one sweep."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from ledger_bench import EMPLOYEES, RETRY, URLS, A, B, Bench, C, D, a_letter, open_bench

from tasks.dlq.calls.outcome import Outcome
from tasks.dlq.ledger import operations, routes, wakeups
from tasks.dlq.ledger.wakeups import IN_TRANSIT, LIFETIME, SPARE_PLACES


@pytest.fixture(params=URLS)
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    yield from open_bench(request.param, tmp_path)


def keys(count: int) -> list[str]:
    return [f'{{"employeeId":"{n}"}}' for n in range(1, count + 1)]


def put(bench: Bench, *wanted: str, delay: float = 0.0) -> list[int]:
    return [job_id for _, job_id in bench.put(*map(a_letter, wanted), delay=delay).opened]


def outstanding(bench: Bench) -> int:
    return bench.do(wakeups.count_outstanding, "employees", bench.clock.now)


# --- the window ------------------------------------------------------------------------------------------------------


def test_a_wake_up_comes_when_its_job_is_due(bench: Bench):
    (job_id,) = put(bench, A, delay=30.0)
    bench.clock.advance(10)

    assert bench.reserve([job_id]) == [(job_id, 20.0)]


def test_at_most_a_window_of_wake_ups_is_out_and_the_oldest_due_come_first(bench: Bench):
    bench.route = replace(EMPLOYEES, window=3)
    late = put(bench, *keys(4), delay=60.0)
    early = put(bench, *(f'{{"employeeId":"{n}"}}' for n in range(11, 13)), delay=30.0)

    rung = bench.reserve([*late, *early])

    assert [job_id for job_id, _ in rung] == [*early, late[0]]
    assert bench.reserve([*late, *early]) == []
    assert outstanding(bench) == 3


def test_two_thousand_waiting_jobs_never_exceed_the_window(bench: Bench):
    for start in range(0, 2000, 500):
        bench.reserve(put(bench, *keys(start + 500)[start:], delay=30.0))
    assert outstanding(bench) == bench.route.window

    bench.clock.advance(30)
    for _ in range(5):  # sweeps while the bells that have just become due are on their way
        assert bench.promote() == []
        bench.clock.advance(1)
    assert outstanding(bench) == bench.route.window


def test_in_an_hour_without_workers_sweeps_and_intake_ring_for_ten_more_at_most(bench: Bench):
    """Intake rings for nothing more, also when the first bells are so old that they count no more: they may be there still."""
    put(bench, *keys(200))
    rung = len(bench.reserve(list(range(1, 201))))
    for number in range(29):
        bench.clock.advance(124)
        rung += len(bench.promote())
        rung += len(bench.reserve(put(bench, f'{{"employeeId":"{1000 + number}"}}')))

    assert rung <= bench.route.window + SPARE_PLACES

    bench.do(wakeups.reset_timeouts)  # a worker starts
    assert len(bench.promote()) == 1


def test_workers_that_are_busy_elsewhere_get_no_more_bells_than_window_and_spare(bench: Bench):
    """Somebody comes for one bell in a minute, while sweeps see a slot that is free and nobody who answers."""
    line = [job_id for job_id, _ in bench.reserve(put(bench, *keys(400)))]
    most = len(line)
    for _ in range(200):
        bench.on_route(wakeups.receive_wakeup, line.pop(0))
        bench.call()
        line += [job_id for job_id, _ in bench.follow_up()]
        for _ in range(12):
            bench.clock.advance(5)
            line += [job_id for job_id, _ in bench.promote()]
            most = max(most, len(line))
    assert most <= bench.route.window + SPARE_PLACES


def test_also_when_all_places_are_taken_by_bells_that_were_lost_somebody_is_called_in_the_end(bench: Bench):
    bench.route = replace(EMPLOYEES, window=5)
    put(bench, *keys(50))
    bench.reserve(list(range(1, 51)))
    while outstanding(bench) < bench.route.window + SPARE_PLACES:
        bench.clock.advance(5)
        if bench.promote():
            bench.do(wakeups.reset_timeouts)
    bench.on_route(wakeups.receive_wakeup, 1)
    bench.on_route(wakeups.reserve_follow_up)
    waited = 0
    while not bench.promote():
        bench.clock.advance(5)
        waited += 5
    assert waited < LIFETIME / 10_000


def test_a_slice_whose_fellow_bells_were_all_lost_goes_on_at_once(bench: Bench):
    job_ids = put(bench, *keys(50))
    bench.reserve(job_ids)
    bench.clock.advance(IN_TRANSIT / 1000)

    assert bench.follow_up() == [(job_ids[0], 0.0)]


def test_a_job_with_a_wake_up_out_gets_no_second_one(bench: Bench):
    job_ids = put(bench, A, B, delay=30.0)
    bench.reserve(job_ids)

    assert bench.reserve(job_ids) == []


def test_a_wake_up_that_is_received_leaves_the_window(bench: Bench):
    bench.route = replace(EMPLOYEES, window=1)
    first, second = put(bench, A, B)
    assert bench.reserve([first, second]) == [(first, 0.0)]

    bench.on_route(wakeups.receive_wakeup, first)

    assert outstanding(bench) == 0
    assert bench.reserve([second]) == [(second, 0.0)]


def test_a_wake_up_that_never_comes_leaves_the_window_in_the_end(bench: Bench):
    bench.route = replace(EMPLOYEES, window=1)
    first, second = put(bench, A, B)
    bench.reserve([first])
    bench.clock.advance(LIFETIME / 1000 - 1)
    assert bench.reserve([second]) == []
    bench.clock.advance(1)
    assert bench.reserve([second]) == [(second, 0.0)]


def test_what_is_due_later_than_sqs_can_delay_waits_in_the_ledger(bench: Bench):
    job_ids = put(bench, A, delay=901.0)
    assert bench.reserve(job_ids) == []
    bench.clock.advance(1)
    assert bench.reserve(job_ids) == [(job_ids[0], 900.0)]


def test_only_waiting_jobs_are_rung_for(bench: Bench):
    job_ids = put(bench, A, B, C)
    bench.call()
    bench.call(Outcome.HOPELESS)
    bench.claimed()

    assert bench.reserve(job_ids) == []


def test_nothing_to_ring_for_is_no_trouble(bench: Bench):
    assert bench.reserve([]) == []


# --- promote ---------------------------------------------------------------------------------------------------------


def test_a_sweep_rings_for_what_is_due_and_has_no_bell(bench: Bench):
    first, _ = put(bench, A, B)

    assert bench.promote() == [(first, 0.0)]


def test_a_sweep_rings_once_for_each_free_slot(bench: Bench):
    bench.route = replace(EMPLOYEES, max_in_flight=3)
    put(bench, A, B, C, D)
    bench.claimed()

    assert len(bench.promote()) == 2


def test_a_sweep_rings_for_nothing_that_is_not_due(bench: Bench):
    put(bench, A, delay=30.0)
    assert bench.promote() == []


def test_a_sweep_rings_nobody_while_every_slot_is_taken(bench: Bench):
    put(bench, A, B)
    bench.claimed()
    assert bench.promote() == []


def test_a_sweep_waits_for_a_bell_that_has_just_become_due(bench: Bench):
    first, second = put(bench, A, B)
    bench.reserve([first])
    bench.clock.advance(4.999)
    assert bench.promote() == []
    bench.clock.advance(0.001)
    assert bench.promote() == [(second, 0.0)]
    bench.clock.advance(15)
    assert bench.promote() == [(first, 0.0)]


def test_a_broker_that_lost_everything_costs_one_sweep(bench: Bench):
    bench.route = replace(EMPLOYEES, window=2)
    job_ids = put(bench, *keys(5), delay=30.0)
    bench.reserve(job_ids)
    bench.clock.advance(45)

    assert len(bench.promote()) == 1


def test_patience_doubles_from_9_to_900_seconds_while_nobody_comes(bench: Bench):
    put(bench, A)
    assert bench.promote()

    waits = []
    for _ in range(9):
        waited = 0
        while not bench.promote():
            bench.clock.advance(1)
            waited += 1
        waits.append(waited)

    assert waits == [9, 18, 36, 72, 144, 288, 576, 900, 900]


def test_patience_starts_anew_once_someone_came(bench: Bench):
    (job_id,) = put(bench, A)
    for wait in (9, 18, 36):
        bench.promote()
        bench.clock.advance(wait)
    bench.on_route(wakeups.receive_wakeup, job_id)

    assert bench.promote()
    bench.clock.advance(8.999)
    assert bench.promote() == []
    bench.clock.advance(0.001)
    assert bench.promote()


def test_a_worker_that_starts_lets_the_next_sweep_ring_at_once(bench: Bench):
    put(bench, A)
    for wait in (9, 18, 9):
        bench.promote()
        bench.clock.advance(wait)
    assert bench.promote() == []

    bench.do(wakeups.reset_timeouts)

    assert bench.promote()


def test_nothing_rings_for_a_paused_route(bench: Bench):
    due = put(bench, A)
    later = put(bench, B, delay=30.0)
    bench.reserve(later)
    bench.pause(by="ops", reason="")
    assert bench.promote() == bench.follow_up() == bench.reserve(due) == []
    assert bench.on_route(wakeups.receive_wakeup, later[0]) == []  # though it came too early
    bench.resume()
    assert bench.promote()


def test_nothing_rings_for_a_route_that_has_to_wait(bench: Bench):
    put(bench, A)
    bench.do(routes.ensure_routes, ["employees"])
    bench.hold_until(bench.clock.now + 60_000)
    assert bench.promote() == bench.follow_up() == []
    bench.clock.advance(60)
    assert bench.promote()


def opened(bench: Bench) -> None:
    """Open the breaker with A and B; C and D are due and untried."""
    bench.route = replace(EMPLOYEES, max_in_flight=3)
    put(bench, A, B, C, D)
    bench.call(Outcome.API_FAULT)
    bench.call(Outcome.API_FAULT)


def test_the_slice_that_opens_the_breaker_rings_once_for_the_moment_of_the_probe(bench: Bench):
    opened(bench)

    assert [delay for _, delay in bench.follow_up()] == [bench.route.probe_interval]
    assert bench.follow_up() == bench.promote() == []


def test_whoever_comes_too_early_for_the_probe_rings_for_it_unless_someone_has(bench: Bench):
    opened(bench)
    ((rung, _),) = bench.follow_up()
    bench.clock.advance(2)

    bench.on_route(wakeups.receive_wakeup, rung)

    assert [delay for _, delay in bench.follow_up()] == [bench.route.probe_interval - 2]
    assert bench.follow_up() == []


def test_a_bell_that_comes_before_the_probe_is_enough(bench: Bench):
    """Who answers it looks again, and rings for the probe then."""
    later = put(bench, *keys(9)[5:], delay=3.0)
    bench.reserve(later[:1])
    opened(bench)

    assert bench.follow_up() == []


def test_new_jobs_behind_an_open_breaker_ring_for_the_probe_at_most(bench: Bench):
    opened(bench)
    new = put(bench, *keys(30)[10:])

    assert [delay for _, delay in bench.reserve(new)] == [bench.route.probe_interval]
    assert bench.reserve(new) == []


def test_a_probe_waits_for_a_rest_that_is_longer_than_its_interval(bench: Bench):
    bench.route = replace(EMPLOYEES, drain=40.0)
    put(bench, A, B, C)
    bench.call(Outcome.API_FAULT)
    bench.call(Outcome.DEADLINE, unknown=True)

    assert [delay for _, delay in bench.follow_up()] == [40.0]


def test_a_probe_comes_no_earlier_than_a_job_is_due(bench: Bench):
    put(bench, A, B)
    bench.call(Outcome.API_FAULT, replace(RETRY, delay=20.0))
    bench.call(Outcome.API_FAULT, replace(RETRY, delay=30.0))

    assert [delay for _, delay in bench.follow_up()] == [20.0]


def test_a_sweep_rings_for_a_probe_whose_bell_was_lost_or_never_rung(bench: Bench):
    opened(bench)
    assert bench.promote() == []
    bench.clock.advance(bench.route.probe_interval)

    assert len(bench.promote()) == 1


# --- follow up -------------------------------------------------------------------------------------------------------


def test_a_slice_that_leaves_due_jobs_behind_rings_once_more(bench: Bench):
    first, _ = put(bench, A, B)
    assert bench.follow_up() == [(first, 0.0)]
    assert bench.follow_up() == []


def test_a_slice_rings_nothing_when_a_bell_that_is_due_is_on_its_way(bench: Bench):
    first, second = put(bench, A, B)
    bench.reserve([second])
    assert bench.follow_up() == []
    bench.on_route(wakeups.receive_wakeup, second)
    assert bench.follow_up() == [(first, 0.0)]


def test_a_bell_for_later_does_not_keep_due_jobs_waiting(bench: Bench):
    bench.reserve(put(bench, A, delay=30.0))
    (due,) = put(bench, B)

    assert bench.follow_up() == [(due, 0.0)]


def test_a_slice_rings_nothing_when_nothing_is_left_or_another_runs(bench: Bench):
    assert bench.follow_up() == []
    put(bench, A, B)
    bench.claimed()
    assert bench.follow_up() == []


def test_a_slice_that_leaves_due_jobs_behind_a_resting_slot_rings_for_the_end_of_its_rest(bench: Bench):
    put(bench, A, B)
    bench.call(Outcome.DEADLINE, RETRY, unknown=True)
    rest = bench.route.drain

    assert [delay for _, delay in bench.follow_up()] == [rest]


def test_however_many_wake_ups_come_during_a_rest_one_is_rung_for_its_end(bench: Bench):
    put(bench, A, B)
    bench.call(Outcome.DEADLINE, RETRY, unknown=True)
    bench.follow_up()
    bench.clock.advance(1)

    assert bench.follow_up() == []


def test_bells_that_never_went_out_leave_the_window_and_the_next_sweep_rings_at_once(bench: Bench):
    job_ids = put(bench, A, B)
    assert len(bench.reserve(job_ids)) == 2

    bench.do(wakeups.release_wakeups, job_ids)

    assert outstanding(bench) == 0
    assert bench.promote()


def test_a_bell_that_comes_too_early_is_rung_again_for_its_time(bench: Bench):
    """An earlier slice called the job while its bell was on the way; now it is due again later."""
    (job_id,) = put(bench, A)
    bench.reserve([job_id])
    bench.call(Outcome.CONFLICT, RETRY)

    again = bench.on_route(wakeups.receive_wakeup, job_id)

    assert [(wakeup.job_id, wakeup.delay) for wakeup in again] == [(job_id, RETRY.delay)]
    assert outstanding(bench) == 1


def test_a_bell_that_comes_for_a_job_that_is_over_is_not_rung_again(bench: Bench):
    (job_id,) = put(bench, A)
    bench.reserve([job_id])
    bench.call()

    assert bench.on_route(wakeups.receive_wakeup, job_id) == []
    assert outstanding(bench) == 0


def test_a_replayed_job_is_rung_for_like_any_other(bench: Bench):
    (job_id,) = put(bench, A)
    bench.call(Outcome.HOPELESS)
    bench.do(operations.replay, job_id, state="parked", last_seq=1)

    assert bench.reserve([job_id]) == [(job_id, 0.0)]


def test_a_job_that_failed_is_rung_for_when_it_is_due_again(bench: Bench):
    (job_id,) = put(bench, A)
    bench.reserve([job_id])
    bench.on_route(wakeups.receive_wakeup, job_id)
    bench.call(Outcome.CONFLICT, RETRY)

    assert bench.reserve([job_id]) == [(job_id, RETRY.delay)]
