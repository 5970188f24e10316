"""`attempts` and `misses` count the call that has just ended, if it counts at all."""

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.dlq.calls.breaker import FAULTS, Breaker
from tasks.dlq.calls.outcome import CallEnd, Outcome
from tasks.dlq.calls.retry import MAX_CRASHES, Decision, Misses, RetryPolicy, Situation, Verdict, decide, decide_after_crash

POLICY = RetryPolicy()
RETRYABLE = [Outcome.CONFLICT, Outcome.THROTTLED, Outcome.API_FAULT, Outcome.NETWORK, Outcome.DEADLINE, Outcome.LOST]
UNSPENT = {Outcome.NOT_SENT, Outcome.REFUSED}
A, B = "a", "b"


def after(
    outcome: Outcome,
    *,
    attempts: int = 1,
    misses: int = 0,
    retry_after: float | None = None,
    short: bool = False,
    chance: float = 0.5,
    policy: RetryPolicy = POLICY,
    breaker: Breaker | None = None,
    has_other_keys: bool = True,
    waits_alone: bool = False,
) -> Decision:
    situation = Situation(
        key=A,
        attempts=attempts - (outcome not in UNSPENT),
        misses=misses - (outcome is Outcome.NOT_SENT),
        now=1_000,
        breaker=breaker or Breaker(),
        has_other_keys=has_other_keys,
        waits_alone=waits_alone,
    )
    return decide(policy, CallEnd(outcome=outcome, retry_after=retry_after, short=short), situation, chance=chance)


def test_a_success_completes_and_a_hopeless_answer_parks():
    assert after(Outcome.SUCCESS).verdict is Verdict.COMPLETE
    assert after(Outcome.SUCCESS, attempts=99).verdict is Verdict.COMPLETE
    assert after(Outcome.HOPELESS).verdict is Verdict.PARK


@pytest.mark.parametrize("outcome", RETRYABLE)
def test_the_last_allowed_attempt_parks(outcome: Outcome):
    assert [after(outcome, attempts=attempts).verdict for attempts in (1, 7, 8, 9)] == [
        *(Verdict.RETRY, Verdict.RETRY),
        *(Verdict.PARK, Verdict.PARK),
    ]
    assert after(outcome).spend
    assert not after(outcome).pause


@pytest.mark.parametrize("outcome", [Outcome.NOT_SENT, Outcome.REFUSED])
def test_what_never_reached_the_api_spends_no_attempt(outcome: Outcome):
    decision = after(outcome, attempts=99, misses=1)
    assert decision.verdict is Verdict.RETRY
    assert not decision.spend


def test_misses_have_a_bound_of_their_own():
    assert [after(Outcome.NOT_SENT, misses=misses).verdict for misses in (1, 49, 50)] == [
        *(Verdict.RETRY, Verdict.RETRY),
        Verdict.PARK,
    ]
    assert after(Outcome.CONFLICT, misses=99).verdict is Verdict.RETRY


def test_misses_back_off_by_their_own_count():
    assert after(Outcome.NOT_SENT, attempts=7, misses=1, chance=1.0).delay == 5.0
    assert after(Outcome.NOT_SENT, attempts=1, misses=4, chance=1.0).delay == 40.0


def test_refused_credentials_pause_the_route_and_never_park_the_job():
    decision = after(Outcome.REFUSED, attempts=99, misses=99)
    assert decision.pause
    assert decision.verdict is Verdict.RETRY
    assert not any(after(outcome).pause for outcome in Outcome if outcome is not Outcome.REFUSED)


def test_the_back_off_doubles_to_its_cap_and_jitters_over_the_whole_range():
    policy = RetryPolicy(max_attempts=100, base=5, cap=60)
    longest = [after(Outcome.NETWORK, attempts=n, chance=1.0, policy=policy).delay for n in range(1, 7)]
    assert longest == [5, 10, 20, 40, 60, 60]
    shortest = [after(Outcome.NETWORK, attempts=n, chance=0.0, policy=policy).delay for n in range(1, 7)]
    assert shortest == [1, 1, 1, 1, 1, 1]
    assert after(Outcome.NETWORK, attempts=3, chance=0.5, policy=policy).delay == 10.5


@given(
    outcome=st.sampled_from(Outcome),
    attempts=st.integers(0, 10**6),
    misses=st.integers(0, 10**6),
    retry_after=st.none() | st.floats(-10, 10**9),
    base=st.floats(0.01, 3600),
    cap=st.floats(0.01, 86400),
    seed=st.integers(),
)
def test_no_delay_is_ever_zero_or_unbounded(  # noqa: PLR0917 - hypothesis passes them by name
    outcome: Outcome, attempts: int, misses: int, retry_after: float | None, base: float, cap: float, seed: int
):
    policy = RetryPolicy(max_attempts=10**7, max_misses=10**7, base=base, cap=cap)
    decision = after(
        outcome, attempts=attempts, misses=misses, retry_after=retry_after, policy=policy, chance=random.Random(seed).random()
    )
    if decision.verdict is Verdict.RETRY:
        assert min(1.0, base, cap) <= decision.delay <= max(cap, policy.max_retry_after + base)
    else:
        assert decision.delay == 0
    assert decision.route_delay is None or 0 < decision.route_delay <= max(cap, policy.max_retry_after + base)


@pytest.mark.parametrize("outcome", RETRYABLE)
def test_retry_after_is_a_lower_bound_with_jitter_on_top(outcome: Outcome):
    assert after(outcome, retry_after=120, chance=0.0).delay == 120
    assert after(outcome, retry_after=120, chance=1.0).delay == 125
    assert after(outcome, retry_after=2, attempts=4, chance=1.0).delay == 40


def test_retry_after_is_clamped():
    clamped = after(Outcome.API_FAULT, retry_after=10**9, chance=0.0)
    assert (clamped.verdict, clamped.delay, clamped.route_delay) == (Verdict.RETRY, 3600, 3600)
    assert after(Outcome.API_FAULT, retry_after=90, chance=0.0, policy=RetryPolicy(max_retry_after=60)).delay == 60
    assert after(Outcome.API_FAULT, retry_after=-5, chance=1.0).delay == 5


def test_the_whole_route_waits_when_the_api_asked_for_it():
    assert after(Outcome.THROTTLED, retry_after=30).route_delay == 30
    assert after(Outcome.API_FAULT, retry_after=30).route_delay == 30
    assert after(Outcome.API_FAULT).route_delay is None
    assert after(Outcome.CONFLICT, retry_after=30).route_delay is None  # only this key has to wait


@pytest.mark.parametrize("retry_after", [None, 0.0, -5.0])
def test_throttled_without_a_time_the_route_backs_off_as_the_job_does(retry_after: float | None):
    decision = after(Outcome.THROTTLED, retry_after=retry_after)
    assert decision.route_delay == decision.delay > 0


def test_the_route_waits_although_this_job_is_parked():
    decision = after(Outcome.THROTTLED, attempts=8, retry_after=30)
    assert (decision.verdict, decision.delay, decision.route_delay) == (Verdict.PARK, 0, 30)


# --- misses ----------------------------------------------------------------------------------------------------------


def test_what_becomes_of_the_misses():
    assert after(Outcome.NOT_SENT).misses is Misses.COUNT
    assert after(Outcome.NOT_SENT, short=True).misses is Misses.KEEP
    assert {after(outcome).misses for outcome in FAULTS} == {Misses.KEEP}
    assert {after(outcome).misses for outcome in (Outcome.SUCCESS, Outcome.CONFLICT, Outcome.THROTTLED)} == {Misses.RESET}


def test_a_process_that_lacks_a_resource_parks_nothing():
    assert after(Outcome.NOT_SENT, misses=99, short=True).verdict is Verdict.RETRY


# --- the breaker -----------------------------------------------------------------------------------------------------

OPEN = Breaker(open=True, faults=2, first_key=B)
ONE_FAULT = Breaker(faults=1, first_key=B)


@pytest.mark.parametrize("outcome", sorted(FAULTS))
def test_a_fault_behind_an_open_breaker_spends_nothing(outcome: Outcome):
    decision = after(outcome, attempts=99, breaker=OPEN)
    assert (decision.verdict, decision.spend, decision.refund) == (Verdict.RETRY, False, False)
    assert decision.delay >= Situation(key=A, attempts=0, misses=0, now=0).probe_interval


@pytest.mark.parametrize("outcome", sorted(FAULTS))
def test_the_fault_that_opens_the_breaker_refunds_the_first_key(outcome: Outcome):
    decision = after(outcome, attempts=99, breaker=ONE_FAULT)
    assert decision.breaker is not None
    assert (decision.breaker.open, decision.refund, decision.verdict, decision.spend) == (True, True, Verdict.RETRY, False)


@pytest.mark.parametrize("breaker", [OPEN, ONE_FAULT])
def test_a_key_that_is_left_alone_spends_its_attempts(breaker: Breaker):
    alone = after(Outcome.API_FAULT, attempts=8, breaker=breaker, has_other_keys=False)
    assert (alone.verdict, alone.spend) == (Verdict.PARK, True)


@pytest.mark.parametrize("outcome", [Outcome.CONFLICT, Outcome.HOPELESS, Outcome.THROTTLED])
def test_another_outcome_closes_the_breaker_and_is_judged_as_ever(outcome: Outcome):
    decision = after(outcome, attempts=8, breaker=OPEN)
    assert (decision.verdict, decision.breaker, decision.refund) == (Verdict.PARK, Breaker(), False)


def test_one_key_alone_does_not_open_the_breaker():
    decision = after(Outcome.API_FAULT, breaker=Breaker(faults=5, first_key=A))
    assert decision.breaker is not None
    assert (decision.breaker.open, decision.spend, decision.refund) == (False, True, False)


# --- other keys, crashes ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("outcome", [Outcome.THROTTLED, Outcome.API_FAULT])
def test_a_job_that_alone_is_told_to_wait_does_not_hold_its_route(outcome: Outcome):
    assert after(outcome, retry_after=30).route_delay == 30
    alone = after(outcome, retry_after=30, waits_alone=True)
    assert (alone.route_delay, alone.delay) == (None, after(outcome, retry_after=30).delay)


def test_a_job_whose_worker_crashes_too_often_is_parked():
    assert [decide_after_crash(crashes) for crashes in (1, MAX_CRASHES - 1, MAX_CRASHES)] == [
        *(Verdict.RETRY, Verdict.RETRY),
        Verdict.PARK,
    ]
