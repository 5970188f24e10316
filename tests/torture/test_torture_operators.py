"""The checker holds what operators did against what came of it."""

from dataclasses import replace

import pytest
from harness.checker import check
from harness.history import History
from harness.sample_history import BOUNDS, act, attempt, call, good_run, kinds


@pytest.fixture
def good() -> History:
    return good_run()


def _discard(good: History, *, at: float) -> None:
    """Have the second need discarded, which was not covered."""
    good.jobs[0] = replace(good.jobs[0], state="discarded", covered_seq=1)
    good.samples.pop()
    good.attempts[1] = replace(good.attempts[1], outcome="transient", status=503)
    good.calls[1] = replace(good.calls[1], status=503)
    good.sums |= {"recovered": 1, "discarded": 1}
    good.acts = [act("discard", "1", at=at, j1="discarded")]
    good.decisions = [("discard", "job 1")]


def test_a_discarded_need_is_accounted_for(good: History):
    _discard(good, at=30.0)
    verdict = check(good, BOUNDS)
    assert verdict.findings == []
    assert verdict.standings == {"recovered": 1, "discarded": 1, "rejected": 1}


def test_a_discarded_need_that_nobody_discarded_is_found(good: History):
    _discard(good, at=30.0)
    good.acts.clear()
    assert kinds(good) == {"acts"}


def test_a_discard_that_was_never_written_down_is_found(good: History):
    _discard(good, at=30.0)
    good.decisions.clear()
    assert kinds(good) == {"acts"}


def test_a_discard_whose_end_nobody_knows_may_have_been_done(good: History):
    _discard(good, at=30.0)
    good.acts = [act("discard", "1", at=30.0, code=5)]
    assert kinds(good) == set()
    good.acts = [act("discard", "1", at=30.0, code=3, j1="skipped")]
    assert kinds(good) == {"acts"}


def test_a_discarded_need_that_the_audit_forgets_is_found(good: History):
    _discard(good, at=30.0)
    good.sums["discarded"] = 0
    assert kinds(good) == {"books"}


def test_a_job_that_is_called_after_it_was_discarded_is_found(good: History):
    good.acts = [act("discard", "1", at=100.0, j1="discarded")]
    good.decisions = [("discard", "job 1")]
    good.attempts.append(attempt("employees/1", 3, 120.0, 120.5))
    good.calls.append(call("employees/1", 3, 120.1, 120.4))
    assert kinds(good) == {"acts"}
    good.acts.append(act("replay", "1", at=110.0, j1="replayed"))
    good.decisions.append(("replay", "job 1"))
    assert kinds(good) == set(), "a replay opens it"


def test_a_job_that_failed_again_after_it_was_discarded_may_be_called(good: History):
    good.acts = [act("discard", "1", at=15.0, j1="discarded")]
    good.decisions = [("discard", "job 1")]
    assert kinds(good) == set()


def test_a_replay_that_calls_nobody_is_found(good: History):
    good.acts = [act("replay", "1", at=30.0, j1="replayed")]
    good.decisions = [("replay", "job 1")]
    assert kinds(good) == {"acts"}
    good.attempts.append(attempt("employees/1", 3, 30.5, 30.9))
    assert kinds(good) == set()


def test_a_call_of_a_paused_route_is_found(good: History):
    good.acts = [act("pause", "employees", at=18.0), act("resume", "employees", at=20.0)]
    assert kinds(good) == set()
    good.acts[1] = replace(good.acts[1], began=25.0)
    assert kinds(good) == {"acts"}
    good.acts[0] = replace(good.acts[0], code=5)
    assert kinds(good) == set(), "nobody knows whether it was paused"


def test_a_call_in_flight_may_end_while_its_route_is_paused(good: History):
    good.acts = [act("pause", "employees", at=20.5), act("resume", "employees", at=30.0)]
    assert kinds(good) == set()


def test_a_parked_job_that_is_called_again_is_found(good: History):
    hopeless = {"outcome": "hopeless", "status": 400}
    good.attempts[0] = replace(good.attempts[0], **hopeless)
    good.calls[0] = replace(good.calls[0], status=400)
    good.samples.pop(0)
    assert kinds(good) == set(), "the second need opened it"
    good.attempts[1] = replace(good.attempts[1], covers_seq=1)
    assert kinds(good) == {"bounds"}
    cut_off = replace(good, attempts=[replace(good.attempts[0], outcome="network"), *good.attempts[1:]])
    assert kinds(cut_off) == set(), "it had not been told to the end"
    good.acts = [act("replay", "1", at=19.5, j1="replayed")]
    good.decisions = [("replay", "job 1")]
    assert kinds(good) == set(), "a replay opens it"
