"""The settle: one guarded update decides by the counters what a call's end makes of its job."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from ledger_bench import EMPLOYEES, PARK, RETRY, URLS, A, B, Bench, C, a_letter, bounded, open_bench

from tasks.dlq.calls.outcome import Outcome
from tasks.dlq.calls.retry import Decision, Verdict
from tasks.dlq.job import State
from tasks.dlq.ledger import operations, pruning


@pytest.fixture(params=URLS)
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    yield from open_bench(request.param, tmp_path)


# --- success ---------------------------------------------------------------------------------------------------------


def test_a_success_covers_what_its_claim_saw_and_completes(bench: Bench):
    bench.put(a_letter(A), a_letter(A), delay=0.0)

    settled = bench.call()

    assert settled.state is State.COMPLETED
    assert [bench.job(A)[name] for name in ("last_seq", "claimed_seq", "covered_seq")] == [2, 2, 2]
    assert (bench.job(A)["token"], bench.job(A)["lease_until"]) == (None, None)


def test_a_success_with_news_covers_no_news(bench: Bench):
    bench.put_due(A)
    held = bench.claimed()
    bench.put(a_letter(A))

    bench.settle(held)

    assert [bench.job(A)[name] for name in ("last_seq", "covered_seq")] == [2, 1]
    assert bench.state() is State.SCHEDULED


def test_a_success_ends_all_budgets(bench: Bench):
    bench.put_due(A)
    bench.call(Outcome.CONFLICT)
    bench.clock.advance(60)
    held = bench.claimed()
    bench.put(a_letter(A))
    bench.settle(held)

    assert [bench.job(A)[name] for name in ("attempts", "misses", "crashes")] == [0, 0, 0]
    assert bench.job(A)["calls"] == 2


def test_an_attempt_is_kept_with_its_outcome(bench: Bench):
    bench.put_due(A)
    bench.call(Outcome.API_FAULT, status=503, detail="HTTP 503 Service Unavailable")
    bench.clock.advance(60)
    bench.call(status=200)

    first, second = bench.rows("attempts")
    assert (first["number"], first["outcome"], first["status"], first["detail"]) == (
        1,
        "api_fault",
        503,
        "HTTP 503 Service Unavailable",
    )
    assert (second["number"], second["outcome"], second["status"]) == (2, "success", 200)
    assert second["ended_at"] == bench.clock.now


# --- failure ---------------------------------------------------------------------------------------------------------


def test_a_failure_is_due_again_after_its_delay_and_spends_one_attempt(bench: Bench):
    bench.put_due(A)

    settled = bench.call(Outcome.CONFLICT, Decision(verdict=Verdict.RETRY, delay=7.0), status=409)

    assert (settled.state, bench.due_in()) == (State.RETRYABLE, 7.0)
    assert [bench.job(A)[name] for name in ("attempts", "misses", "covered_seq", "status")] == [1, 0, 0, 409]


def test_the_last_allowed_attempt_parks_with_its_failure_group(bench: Bench):
    bench.route = replace(EMPLOYEES, retry=bounded(3))
    bench.put_due(A)
    for _ in range(3):
        assert bench.state() in {State.SCHEDULED, State.RETRYABLE}
        bench.call(Outcome.CONFLICT, status=409, detail="busy")
        bench.clock.advance(60)

    assert (bench.state(), bench.job(A)["attempts"]) == (State.PARKED, 3)
    assert bench.job(A)["group_key"]
    assert bench.claim() is None
    assert bench.sums() == {"accepted": 1, "parked": 1}


def test_a_hopeless_answer_parks_at_once(bench: Bench):
    bench.put_due(A)

    assert bench.call(Outcome.HOPELESS, status=400).state is State.PARKED


def test_a_call_that_fails_for_the_last_time_while_needs_came_starts_anew_instead_of_parking(bench: Bench):
    bench.route = replace(EMPLOYEES, retry=bounded(1))
    bench.put_due(A)
    held = bench.claimed()
    bench.put(a_letter(A))

    settled = bench.settle(held, Outcome.CONFLICT)

    assert (settled.state, bench.due_in(), bench.job(A)["attempts"]) == (State.SCHEDULED, bench.route.delay, 0)


def test_the_failure_of_a_job_that_parked_and_the_success_after_it_agree(bench: Bench):
    bench.put_due(A)
    bench.call(Outcome.HOPELESS, status=400)
    bench.put(a_letter(A), delay=0.0)
    bench.call(status=200)

    row = bench.job(A)
    assert (row["state"], row["outcome"], row["status"], row["group_key"]) == ("completed", "success", 200, None)


def test_a_try_that_was_not_sent_spends_a_miss_and_no_attempt(bench: Bench):
    bench.put_due(A)
    for misses in (1, 2, 3):
        bench.call(Outcome.NOT_SENT)
        assert [bench.job(A)[name] for name in ("attempts", "misses")] == [0, misses]
        bench.clock.advance(1000)


def test_misses_are_counted_in_a_row_and_bounded(bench: Bench):
    bench.route = replace(EMPLOYEES, retry=replace(bounded(5), max_misses=3))
    bench.put_due(A)
    for outcome in (Outcome.NOT_SENT, Outcome.NOT_SENT, Outcome.CONFLICT, Outcome.NOT_SENT, Outcome.NOT_SENT):
        assert bench.call(outcome).state is State.RETRYABLE
        bench.clock.advance(60)

    assert bench.call(Outcome.NOT_SENT).state is State.PARKED
    assert bench.job(A)["attempts"] == 1  # one call reached the API in all that time


def test_an_unknown_outcome_is_not_due_before_its_rest_is_over(bench: Bench):
    bench.put_due(A)

    bench.call(Outcome.DEADLINE, Decision(verdict=Verdict.RETRY, delay=1.0), unknown=True)

    assert bench.due_in() == bench.route.drain
    assert bench.job(A)["rest_until"] == bench.clock.now + bench.route.drain * 1000


# --- the route's fault -----------------------------------------------------------------------------------------------


def test_refused_credentials_pause_the_route_and_park_no_job(bench: Bench):
    bench.route = replace(EMPLOYEES, retry=bounded(1))
    bench.put_due(A)

    settled = bench.call(Outcome.REFUSED, status=401, detail="HTTP 401 Unauthorized")

    assert (settled.state, bench.job(A)["attempts"]) == (State.RETRYABLE, 0)
    (row,) = bench.rows("routes")
    assert (row["paused_by"], row["pause_reason"], row["paused_at"]) == ("redrive", "HTTP 401 Unauthorized", bench.clock.now)
    bench.clock.advance(3600)
    assert bench.claim() is None


def test_a_wait_that_the_api_asked_for_holds_the_whole_route(bench: Bench):
    bench.put_due(A)
    bench.put_due(B)

    bench.call(Outcome.THROTTLED, Decision(verdict=Verdict.RETRY, delay=60.0, route_delay=60.0))

    bench.clock.advance(59.9)
    assert bench.claim() is None
    bench.clock.advance(0.1)
    assert bench.claim() is not None


@pytest.mark.parametrize("served", [[B], []], ids=["others served", "nobody"])
def test_a_job_that_is_told_to_wait_again_holds_the_route_again_only_if_nobody_was_served_since(bench: Bench, served: list[str]):
    bench.put_due(A)
    bench.call(Outcome.THROTTLED, retry_after=60.0)
    for key in served:
        bench.put_due(key)
    bench.clock.advance(65)
    for _ in served:
        bench.call(Outcome.SUCCESS)
    bench.call(Outcome.THROTTLED, retry_after=60.0)
    assert bench.due_in(A) == 65.0

    bench.put_due(C)
    assert (bench.claim() is not None) == bool(served)


def test_the_fault_that_opens_the_breaker_is_the_apis_and_costs_no_attempt(bench: Bench):
    bench.put_due(A)
    bench.put_due(B)
    bench.call(Outcome.API_FAULT)
    bench.call(Outcome.NETWORK)

    assert (bench.job(A)["attempts"], bench.job(B)["attempts"]) == (0, 0)


def test_the_faults_before_the_one_that_opens_the_breaker_are_the_apis_too(bench: Bench):
    bench.put_due(A)
    bench.call(Outcome.CONFLICT, RETRY)  # its own
    for _ in range(3):
        bench.clock.advance(60)
        bench.call(Outcome.API_FAULT)
    assert bench.job(A)["attempts"] == 4
    bench.put_due(B)

    bench.clock.advance(1)
    bench.call(Outcome.NETWORK)

    assert (bench.job(A)["attempts"], bench.job(B)["attempts"]) == (1, 0)


def test_a_key_that_an_outage_parked_before_it_was_known_is_called_again(bench: Bench):
    bench.route = replace(EMPLOYEES, retry=bounded(1))
    bench.put_due(A)
    bench.put_due(B)
    assert bench.call(Outcome.DEADLINE, unknown=True).state is State.PARKED
    bench.clock.advance(bench.route.drain)

    assert bench.call(Outcome.API_FAULT).state is State.RETRYABLE

    assert (bench.state(A), bench.job(A)["attempts"], bench.due_in(A)) == (State.RETRYABLE, 0, bench.route.probe_interval)


def test_two_poisoned_keys_open_the_breaker_for_each_other_so_often_and_no_oftener(bench: Bench):
    """A and B always fail; C, which is well, comes now and then."""
    bench.route = replace(EMPLOYEES, retry=replace(bounded(3), max_misses=4))
    bench.put_due(A)
    bench.put_due(B)
    calls = 0
    while {bench.state(A), bench.state(B)} != {State.PARKED}:
        bench.clock.advance(20)
        if held := bench.claim():
            bench.settle(held, Outcome.SUCCESS if held.key == C else Outcome.API_FAULT)
        calls += 1
        if calls % 7 == 0:
            bench.put_due(C)
        assert calls < 500


def test_a_late_fault_gives_nothing_back(bench: Bench):
    bench.put_due(A)
    bench.put_due(B)
    bench.call(Outcome.API_FAULT)
    held = bench.claimed()
    bench.clock.advance(bench.route.lease)
    assert bench.rescue() == [held.job_id]

    bench.settle(held, Outcome.API_FAULT)

    assert bench.job(A)["attempts"] == 1
    assert not bench.rows("routes")[0]["breaker_open"]


def test_a_fault_while_the_other_key_is_in_the_air_costs_no_attempt(bench: Bench):
    bench.route = replace(EMPLOYEES, max_in_flight=2)
    bench.put_due(A)
    bench.call(Outcome.API_FAULT)
    bench.clock.advance(60)
    bench.put_due(B)
    assert bench.claimed().key == A
    bench.clock.advance(1)

    bench.call(Outcome.API_FAULT)

    assert (bench.job(A)["attempts"], bench.job(B)["attempts"]) == (0, 0)


# --- late ------------------------------------------------------------------------------------------------------------


def taken(bench: Bench, *, by_another: bool = False):
    """Let a claim's lease run out and be taken back (`by_another`: and the key be claimed again). Return the old claim."""
    held = bench.claimed("slow")
    bench.clock.advance(bench.route.lease)
    assert bench.rescue() == [held.job_id]
    if by_another:
        bench.clock.advance(3600)
        bench.claimed("quick")
    return held


def test_a_late_success_covers_up_to_its_own_mark_and_changes_nothing_else(bench: Bench):
    bench.put_due(A)
    held = taken(bench)
    bench.put(a_letter(A))
    before = dict(bench.job(A))

    settled = bench.settle(held)

    assert settled.state is None
    assert dict(bench.job(A)) == before | {"covered_seq": 1}
    assert bench.sums() == {"accepted": 2, "recovered": 1, "pending": 1}


def test_a_late_success_leaves_the_lease_of_the_call_that_followed_alone(bench: Bench):
    bench.put_due(A)
    held = taken(bench, by_another=True)
    before = dict(bench.job(A))

    bench.settle(held)

    assert dict(bench.job(A)) == before | {"covered_seq": 1}
    assert bench.state() is State.EXECUTING


def test_a_late_success_never_lowers_what_is_covered(bench: Bench):
    bench.put_due(A)
    held = taken(bench)
    bench.put(a_letter(A))
    bench.clock.advance(3600)
    bench.call()

    bench.settle(held)

    assert bench.job(A)["covered_seq"] == 2


@pytest.mark.parametrize("decision", [RETRY, PARK, Decision(verdict=Verdict.RETRY, pause=True, route_delay=99.0)])
def test_a_late_failure_changes_nothing(bench: Bench, decision: Decision):
    bench.put_due(A)
    held = taken(bench, by_another=True)
    before, routes = dict(bench.job(A)), bench.rows("routes")

    settled = bench.settle(held, Outcome.API_FAULT, decision, unknown=True)

    assert settled.state is None
    assert dict(bench.job(A)) == before
    assert bench.rows("routes") == routes


def test_a_late_end_is_written_into_its_own_attempt(bench: Bench):
    bench.put_due(A)
    held = taken(bench, by_another=True)
    bench.settle(held, status=200)

    first, second = bench.rows("attempts")
    assert (first["outcome"], first["status"]) == ("success", 200)
    assert second["outcome"] is None


def test_an_end_that_is_written_again_keeps_its_time(bench: Bench):
    bench.put_due(A)
    held = bench.claimed()
    bench.settle(held)  # and the answer to the commit is lost
    before = bench.rows("attempts")
    bench.clock.advance(3)
    bench.settle(held)

    assert bench.rows("attempts") == before


def test_a_settle_within_an_expired_lease_that_nobody_took_is_not_late(bench: Bench):
    bench.put_due(A)
    held = bench.claimed()
    bench.clock.advance(3600)

    assert bench.settle(held).state is State.COMPLETED


def test_a_settle_that_comes_twice_counts_once(bench: Bench):
    bench.put_due(A)
    held = bench.claimed()
    bench.settle(held, Outcome.CONFLICT)
    before = dict(bench.job(A))

    assert bench.settle(held, Outcome.CONFLICT).state is None
    assert dict(bench.job(A)) == before


def test_a_settle_of_a_job_that_was_pruned_changes_nothing(bench: Bench):
    bench.put_due(A)
    held = taken(bench)
    bench.clock.advance(3600)
    bench.call()
    bench.clock.advance(3600)
    bench.do(pruning.prune_letters, before=bench.clock.now)
    assert bench.do(pruning.prune_jobs, before=bench.clock.now) == 1

    assert bench.settle(held).state is None
    assert bench.sums() == {"accepted": 1, "recovered": 1}


def test_a_job_that_was_discarded_and_opened_again_is_not_completed_by_an_old_call(bench: Bench):
    job_id = bench.put_due(A)
    held = taken(bench)
    assert bench.do(operations.discard, job_id, state=State.RETRYABLE, last_seq=1)
    bench.put(a_letter(A))

    bench.settle(held)

    assert (bench.state(), bench.job(A)["covered_seq"]) == (State.SCHEDULED, 1)
