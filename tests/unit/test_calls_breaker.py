"""The breaker opens for an API that is down, not for one poisoned key, and closes at the first answer that speaks for the API."""

import pytest

from tasks.dlq.calls.breaker import FAULTS, NEUTRAL, Breaker
from tasks.dlq.calls.outcome import Outcome

ANSWERS_OF_A_WELL_API = sorted(set(Outcome) - FAULTS - NEUTRAL)


def after(*calls: tuple[Outcome, str], breaker: Breaker | None = None, now: int = 1000) -> Breaker:
    breaker = breaker or Breaker()
    for outcome, key in calls:
        breaker = breaker.after(outcome, key=key, now=now, interval=5.0)
    return breaker


def test_two_different_keys_in_a_row_open_it():
    assert after((Outcome.API_FAULT, "a"), (Outcome.NETWORK, "b")).open


def test_one_poisoned_key_never_opens_it():
    breaker = after(*[(Outcome.API_FAULT, "a")] * 50)

    assert not breaker.open
    assert breaker.faults == 50


def test_a_second_key_opens_it_however_often_the_first_one_failed():
    assert after(*[(Outcome.DEADLINE, "a")] * 3, (Outcome.API_FAULT, "b")).open


@pytest.mark.parametrize("outcome", ANSWERS_OF_A_WELL_API)
def test_any_answer_that_speaks_for_the_api_ends_the_row(outcome: Outcome):
    breaker = after((Outcome.API_FAULT, "a"), (outcome, "c"), (Outcome.API_FAULT, "b"))

    assert not breaker.open
    assert breaker.first_key == "b"


@pytest.mark.parametrize("outcome", ANSWERS_OF_A_WELL_API)
def test_any_answer_that_speaks_for_the_api_closes_it(outcome: Outcome):
    opened = after((Outcome.API_FAULT, "a"), (Outcome.API_FAULT, "b"))

    assert after((outcome, "c"), breaker=opened) == Breaker()


@pytest.mark.parametrize("outcome", sorted(NEUTRAL))
def test_what_says_nothing_about_the_api_changes_nothing(outcome: Outcome):
    once = after((Outcome.API_FAULT, "a"))
    opened = after((Outcome.API_FAULT, "b"), breaker=once)

    assert after((outcome, "b"), breaker=once) == once
    assert after((outcome, "b"), breaker=opened) == opened


def test_a_conflict_or_a_throttle_is_no_fault():
    assert not {Outcome.CONFLICT, Outcome.THROTTLED, Outcome.HOPELESS} & FAULTS


def test_a_fault_puts_the_next_probe_one_interval_off():
    opened = after((Outcome.API_FAULT, "a"), (Outcome.API_FAULT, "b"), now=1000)

    assert opened.probe_at == 6000
    assert after((Outcome.NETWORK, "c"), breaker=opened, now=9000).probe_at == 14000


def test_a_probe_that_is_given_out_puts_the_next_one_off_and_leaves_it_open():
    opened = after((Outcome.API_FAULT, "a"), (Outcome.API_FAULT, "b"), now=1000)

    probing = opened.probing(now=6000, interval=5.0)

    assert probing.open
    assert probing.probe_at == 11000
    assert probing.faults == opened.faults
