"""Replay, discard and undo are compare-and-set: "changed meanwhile, skipped" is an answer."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from ledger_bench import URLS, A, Bench, a_letter, open_bench

from tasks.dlq.calls.outcome import Outcome
from tasks.dlq.job import CLOSED, State
from tasks.dlq.ledger.operations import discard, find_jobs, log, replay


@pytest.fixture(params=URLS)
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    yield from open_bench(request.param, tmp_path)


def act(bench: Bench, what: object, job_id: int, saw: tuple[State, int]) -> bool:
    return bool(bench.do(what, job_id, state=saw[0], last_seq=saw[1]))


def look(bench: Bench, job_id: int) -> tuple[State, int]:
    (row,) = bench.do(find_jobs, [job_id])
    return State(row.state), row.last_seq


def in_state(bench: Bench, state: State) -> int:
    """Bring the job of A into `state`; return its id."""
    job_id = bench.put_due(A)
    match state:
        case State.EXECUTING:
            bench.claimed()
        case State.RETRYABLE:
            bench.call(Outcome.CONFLICT)
        case State.COMPLETED:
            bench.call()
        case State.PARKED:
            bench.call(Outcome.HOPELESS)
        case State.DISCARDED:
            assert act(bench, discard, job_id, (State.SCHEDULED, 1))
    assert bench.state() is state
    return job_id


@pytest.mark.parametrize("state", State)
def test_what_can_be_discarded(bench: Bench, state: State):
    job_id = in_state(bench, state)

    assert act(bench, discard, job_id, (state, 1)) is (state in {State.SCHEDULED, State.RETRYABLE, State.PARKED})


@pytest.mark.parametrize("state", State)
def test_what_can_be_replayed(bench: Bench, state: State):
    job_id = in_state(bench, state)

    assert act(bench, replay, job_id, (state, 1)) is (state in CLOSED)


def test_a_discarded_letter_counts_as_discarded_and_is_called_no_more(bench: Bench):
    job_id = in_state(bench, State.PARKED)
    act(bench, discard, job_id, (State.PARKED, 1))

    assert bench.sums() == {"accepted": 1, "discarded": 1}
    bench.clock.advance(10**6)
    assert bench.claim() is None


def test_what_was_recovered_before_a_discard_stays_recovered(bench: Bench):
    job_id = in_state(bench, State.COMPLETED)
    bench.put(a_letter(A))
    act(bench, discard, job_id, (State.SCHEDULED, 2))

    assert bench.sums() == {"accepted": 2, "recovered": 1, "discarded": 1}


@pytest.mark.parametrize(("act_of", "state"), [(discard, State.RETRYABLE), (replay, State.PARKED)])
def test_a_need_that_came_since_the_look_is_not_acted_upon(bench: Bench, act_of: object, state: State):
    job_id = in_state(bench, state)
    saw = look(bench, job_id)
    bench.put(a_letter(A))
    before = dict(bench.job(A))

    assert not act(bench, act_of, job_id, saw)
    assert dict(bench.job(A)) == before


def test_a_call_that_began_since_the_look_is_not_acted_upon(bench: Bench):
    job_id = in_state(bench, State.SCHEDULED)
    saw = look(bench, job_id)
    held = bench.claimed()

    assert not act(bench, discard, job_id, saw)
    assert bench.settle(held).state is State.COMPLETED


def test_two_people_who_replay_at_once_replay_once(bench: Bench):
    job_id = in_state(bench, State.PARKED)
    saw = look(bench, job_id)

    assert [act(bench, replay, job_id, saw) for _ in range(2)] == [True, False]


def test_a_replay_is_due_now_with_a_fresh_budget(bench: Bench):
    job_id = in_state(bench, State.PARKED)
    bench.clock.advance(3600)
    act(bench, replay, job_id, (State.PARKED, 1))

    assert (bench.state(), bench.due_in(), bench.job(A)["attempts"]) == (State.SCHEDULED, 0.0, 0)
    bench.call()
    assert bench.sums() == {"accepted": 1, "recovered": 1}


def test_an_undo_of_a_discard_brings_the_needs_back(bench: Bench):
    job_id = in_state(bench, State.DISCARDED)
    act(bench, replay, job_id, (State.DISCARDED, 1))

    assert bench.sums() == {"accepted": 1, "pending": 1}


def test_an_undo_beside_a_live_job_merges(bench: Bench):
    job_id = in_state(bench, State.DISCARDED)
    bench.put(a_letter(A), delay=0.0)

    assert not act(bench, replay, job_id, (State.DISCARDED, 1))
    bench.call()
    assert bench.sums() == {"accepted": 2, "recovered": 2}


def test_a_job_that_is_not_there_is_not_as_it_was_seen(bench: Bench):
    assert bench.do(find_jobs, [404]) == []
    assert not act(bench, discard, 404, (State.PARKED, 1))
    assert not act(bench, replay, 404, (State.PARKED, 1))


def test_who_did_what_and_why_is_written_down(bench: Bench):
    bench.do(log, actor="ops", action="discard", subject="job 7", reason="duplicate of 6")

    with bench.ledger.begin(read_only=True) as tx:
        (row,) = tx.connection.exec_driver_sql("SELECT at, actor, action, subject, reason FROM audit_log").all()
    assert tuple(row) == (bench.clock.now, "ops", "discard", "job 7", "duplicate of 6")
