"""Recovery: what a worker does from a wake-up to the end of its slice, with an API that answers by a script."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ledger_bench import EMPLOYEES, URLS, A, B, Bench, C, WakeupRecorder, a_letter, bounded, open_bench
from sqlalchemy import select

from tasks.dlq.calls.api import Answer, SyncRequest, SyncResult
from tasks.dlq.calls.outcome import Outcome
from tasks.dlq.calls.retry import RetryPolicy
from tasks.dlq.calls.route import LEASE_MARGIN
from tasks.dlq.errors import LedgerUnavailable
from tasks.dlq.job import State
from tasks.dlq.ledger.schema import jobs
from tasks.dlq.parameters import Integer
from tasks.dlq.services.maintenance import Maintenance
from tasks.dlq.services.recovery import Recovery, may_send

SLICE = 5.0
ROUTE = replace(EMPLOYEES, delay=30.0, retry=RetryPolicy(max_attempts=3, base=8.0, cap=60.0))

#: Seconds after which a claim's call is not sent any more.
START = ROUTE.lease - ROUTE.deadline - LEASE_MARGIN


def answered(status: int, **rest: Any) -> SyncResult:
    return SyncResult(answer=Answer.ANSWERED, status=status, detail=f"HTTP {status}", **rest)


OK = answered(200)
HUNG = SyncResult(answer=Answer.DEADLINE, detail="no answer within 20 s", unknown=True)
RESET = SyncResult(answer=Answer.NETWORK, detail="connection reset", unknown=True)
UNSENT = SyncResult(answer=Answer.NOT_SENT, detail="connection refused")
Act = Callable[[SyncRequest], SyncResult]


class Api:
    """Answers by a script, each time once, then 200; an act may do something in the middle of the call first."""

    def __init__(self, world: "World") -> None:
        self.script: list[SyncResult | Act] = []
        self.requests: list[SyncRequest] = []
        self.takes = 1.0
        self._world = world

    def call(self, request: SyncRequest) -> SyncResult:
        self.requests.append(request)
        self._world.advance(self.takes)
        step = self.script.pop(0) if self.script else OK
        return step(request) if callable(step) else step

    @property
    def called(self) -> list[str]:
        return [request.parameters["employeeId"] for request in self.requests]


class World:
    """One worker, its ledger, and the time that passes for both."""

    def __init__(self, bench: Bench, *, route: Any = ROUTE) -> None:
        self.stopping = False
        self.bench = bench
        self.sender = WakeupRecorder()
        self.api = Api(self)
        self.routes = {"employees": route}
        self.time = 1000.0
        self.naps: list[float] = []
        self.recovery = Recovery(
            bench.ledger,
            self.routes,
            self.api,
            self.sender,
            slice_seconds=SLICE,
            worker="w",
            monotonic=lambda: self.time,
            wall=lambda: bench.clock.now / 1000,
            rng=lambda: 1.0,
            sleep=self.sleep,
            stopping=lambda: self.stopping,
        )

    def advance(self, seconds: float) -> None:
        self.time += seconds
        self.bench.clock.advance(seconds)

    def sleep(self, seconds: float) -> None:
        self.naps.append(seconds)
        self.advance(seconds)

    def answer(self, *script: SyncResult | Act) -> None:
        self.api.script = list(script)


@pytest.fixture(params=URLS)
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    yield from open_bench(request.param, tmp_path)


@pytest.fixture
def world(bench: Bench) -> World:
    return World(bench)


def put_due(bench: Bench, *keys: str) -> list[int]:
    return [bench.put_due(key) for key in keys]


# --- a worker that stops ---------------------------------------------------------------------------------------------


def test_a_worker_that_is_to_stop_ends_its_call_and_rings_for_what_is_left(world: World, bench: Bench):
    first, second = put_due(bench, A, B)

    def stop(_: SyncRequest) -> SyncResult:
        world.stopping = True
        return OK

    world.answer(stop)

    assert world.recovery.run_slice(first).calls == 1
    assert bench.sums() == {"accepted": 2, "recovered": 1, "pending": 1}
    assert (bench.state(B), bench.due_in(B)) == (State.SCHEDULED, -1.0)  # due since the call began
    assert world.sender.sent == [(second, 0.0)]


def test_a_wake_up_that_a_stopping_worker_receives_is_rung_again(world: World, bench: Bench):
    (job_id,) = put_due(bench, A)
    world.stopping = True

    assert world.recovery.run_slice(job_id).calls == 0
    assert world.sender.sent == [(job_id, 0.0)]


# --- one job ---------------------------------------------------------------------------------------------------------


def test_a_call_that_succeeds_completes_its_job(world: World, bench: Bench):
    (job_id,) = put_due(bench, A)

    done = world.recovery.run_slice(job_id)

    assert (done.calls, bench.count_completed(), done.parked, done.retry_at) == (1, 1, 0, None)
    assert bench.sums() == {"accepted": 1, "recovered": 1}
    (request,) = world.api.requests
    assert (request.parameters, request.job_id, request.attempt) == ({"employeeId": "1"}, job_id, 1)
    assert request.fence == bench.job(A)["fence"]
    assert world.sender.sent == []


def test_a_503_of_the_named_job_is_due_again_when_the_ledger_says(world: World, bench: Bench):
    (job_id,) = put_due(bench, A)
    world.answer(answered(503))

    done = world.recovery.run_slice(job_id)

    assert done.retry_at == world.time + 8.0
    assert bench.due_in() == 8.0
    assert bench.state() is State.RETRYABLE
    assert world.sender.sent == []  # that wake-up is Celery's own retry


def test_another_job_that_fails_is_rung_for_by_itself(world: World, bench: Bench):
    named, other = put_due(bench, A, B)
    world.answer(OK, answered(409))

    done = world.recovery.run_slice(named)

    assert (done.calls, bench.count_completed(), done.retry_at) == (2, 1, None)
    assert world.sender.sent == [(other, 8.0)]


def test_a_wake_up_that_comes_too_early_calls_nothing_and_is_rung_again(world: World, bench: Bench):
    bench.put(a_letter(A), delay=30.0)
    job_id = bench.job(A)["id"]

    assert world.recovery.run_slice(job_id).calls == 0
    assert world.sender.sent == [(job_id, 30.0)]


def test_a_wake_up_for_a_job_that_is_gone_or_of_an_unknown_route_is_dropped(world: World, bench: Bench):
    bench.put(a_letter(A, route="companies"), delay=0.0)

    assert world.recovery.run_slice(404).calls == 0
    assert world.recovery.run_slice(bench.job(A, "companies")["id"]).calls == 0
    assert bench.job(A, "companies")["state"] == "scheduled"


def test_a_doubled_wake_up_calls_once(world: World, bench: Bench):
    (job_id,) = put_due(bench, A)

    assert [world.recovery.run_slice(job_id).calls for _ in range(2)] == [1, 0]


def test_a_wake_up_that_finds_no_free_slot_is_dropped(world: World, bench: Bench):
    *_, second = put_due(bench, A, B)
    bench.claimed()

    assert world.recovery.run_slice(second).calls == 0
    assert world.sender.sent == []


# --- answers ---------------------------------------------------------------------------------------------------------


def test_a_400_parks_with_its_failure_group(world: World, bench: Bench):
    first, second = put_due(bench, A, B)
    world.answer(answered(400), answered(400))

    done = world.recovery.run_slice(first)

    assert (done.parked, done.retry_at) == (2, None)
    assert bench.state(A) is bench.state(B) is State.PARKED
    assert bench.job(A)["group_key"] == bench.job(B)["group_key"] is not None
    assert second
    assert bench.sums() == {"accepted": 2, "parked": 2}


def test_a_401_pauses_the_route_parks_nothing_and_ends_the_slice(world: World, bench: Bench):
    world.routes["employees"] = replace(ROUTE, retry=bounded(1))
    first, _ = put_due(bench, A, B)
    world.answer(answered(401))

    done = world.recovery.run_slice(first)

    assert (done.calls, done.parked, done.paused) == (1, 0, True)
    assert (bench.state(A), bench.job(A)["attempts"]) == (State.RETRYABLE, 0)
    (row,) = bench.rows("routes")
    assert row["paused_by"] == "redrive"
    world.advance(3600)
    assert world.recovery.run_slice(first).calls == 0


def test_a_retry_after_holds_the_whole_route(world: World, bench: Bench):
    first, second = put_due(bench, A, B)
    world.answer(answered(503, retry_after="120"))

    assert world.recovery.run_slice(first).calls == 1
    world.advance(118)
    assert world.recovery.run_slice(second).calls == 0
    world.advance(2)
    assert world.recovery.run_slice(second).calls >= 1


def test_a_job_that_never_succeeds_parks_after_its_last_allowed_attempt(world: World, bench: Bench):
    (job_id,) = put_due(bench, A)
    world.answer(*[answered(409)] * 10)
    for _ in range(6):
        world.recovery.run_slice(job_id)
        world.advance(120)

    assert (bench.state(), len(world.api.requests)) == (State.PARKED, 3)


def test_a_try_that_was_not_sent_spends_no_attempt(world: World, bench: Bench):
    (job_id,) = put_due(bench, A)
    world.answer(*[UNSENT] * 5)
    for _ in range(5):
        assert world.recovery.run_slice(job_id).retry_at is not None
        world.advance(120)

    assert [bench.job(A)[name] for name in ("attempts", "misses")] == [0, 5]
    world.recovery.run_slice(job_id)
    assert bench.count_completed() == 1


@pytest.mark.parametrize(
    ("key", "told"),
    [
        ('{"employeeId":"me"}', "parameter employeeId is 'me'; employeeId must be a positive integer"),
        ('{"employeeId":["1"]}', "parameter employeeId is a list; employeeId must be a positive integer"),
        ('{"employeeId":1}', 'the route writes the parameters as {"employeeId":"1"}'),
        ('{"id":"1"}', "unknown parameter 'id'; this route takes: employeeId"),
        ("{}", "parameter employeeId is missing; employeeId must be a positive integer"),
    ],
)
def test_a_key_that_its_route_does_not_take_is_not_called_and_parked_in_the_end(bench: Bench, key: str, told: str):
    route = replace(ROUTE, params={"employeeId": Integer(positive=True)}, retry=RetryPolicy(max_misses=3))
    world = World(bench, route=route)
    wrong, right = put_due(bench, key, A)

    for _ in range(3):
        world.recovery.run_slice(wrong)
        world.advance(route.retry.cap)

    assert (bench.state(key), bench.state(A)) == (State.PARKED, State.COMPLETED)
    assert [request.job_id for request in world.api.requests] == [right]
    job = bench.job(key)
    assert (job["attempts"], job["outcome"], job["detail"]) == (0, Outcome.NOT_SENT, f"not sent: {told}")


@pytest.mark.parametrize("result", [HUNG, RESET])
def test_after_an_unknown_outcome_nobody_calls_until_the_drain_is_over(world: World, bench: Bench, result: SyncResult):
    first, second = put_due(bench, A, B)
    world.answer(result)

    assert world.recovery.run_slice(first).calls == 1
    assert world.recovery.run_slice(second).calls == 0
    world.advance(ROUTE.drain)
    assert world.recovery.run_slice(second).calls >= 1


def test_two_keys_that_find_the_api_down_open_the_breaker_and_the_slice_ends(world: World, bench: Bench):
    first, *_ = put_due(bench, A, B, C)
    world.answer(*[answered(500)] * 10)

    assert world.recovery.run_slice(first).calls == 2
    assert bench.rows("routes")[0]["breaker_open"]


# --- needs that come meanwhile ---------------------------------------------------------------------------------------


def test_needs_that_come_in_the_middle_of_the_call_get_exactly_one_more(world: World, bench: Bench):
    (job_id,) = put_due(bench, A)

    def meanwhile(_request: SyncRequest) -> SyncResult:
        bench.put(a_letter(A))
        bench.put(a_letter(A), a_letter(B))
        return OK

    world.answer(meanwhile)
    world.recovery.run_slice(job_id)

    assert bench.sums() == {"accepted": 4, "recovered": 1, "pending": 3}
    assert (job_id, ROUTE.delay) in world.sender.sent
    world.advance(ROUTE.delay)
    world.recovery.run_slice(job_id)
    assert world.api.called == ["1", "1", "2"]
    assert bench.sums() == {"accepted": 4, "recovered": 4}


def test_a_last_failure_with_news_starts_anew(world: World, bench: Bench):
    (job_id,) = put_due(bench, A)

    def meanwhile(_request: SyncRequest) -> SyncResult:
        bench.put(a_letter(A))
        return answered(400)

    world.answer(meanwhile)
    world.recovery.run_slice(job_id)

    assert (bench.state(), bench.due_in(), bench.job(A)["attempts"]) == (State.SCHEDULED, ROUTE.delay, 0)


# --- slices ----------------------------------------------------------------------------------------------------------


def keys(count: int) -> Sequence[str]:
    return [f'{{"employeeId":"{n}"}}' for n in range(1, count + 1)]


def test_a_slice_goes_on_to_what_else_is_due_and_one_wake_up_is_enough(world: World, bench: Bench):
    world.api.takes = 0.1
    first, *_ = put_due(bench, *keys(20))

    assert world.recovery.run_slice(first).calls == 20
    assert world.sender.sent == []


def test_a_slice_ends_after_its_seconds_and_rings_once_more(world: World, bench: Bench):
    world.api.takes = 1.0
    first, *_ = put_due(bench, *keys(20))

    done = world.recovery.run_slice(first)

    assert done.calls == SLICE
    (rung,) = world.sender.sent
    assert rung[1] == 0.0
    assert bench.state(f'{{"employeeId":"{rung[0]}"}}') is State.SCHEDULED


def test_a_slice_calls_what_has_been_due_for_longest_first(world: World, bench: Bench):
    *_, last = put_due(bench, A, B, C)
    world.recovery.run_slice(last)

    assert world.api.called == ["1", "2", "3"]


def test_a_failing_job_is_called_once_in_a_slice(world: World, bench: Bench):
    first, *_ = put_due(bench, A, B, C)
    world.answer(answered(409), OK, OK)

    assert world.recovery.run_slice(first).calls == 3
    assert world.api.called == ["1", "2", "3"]


def test_a_broker_that_is_gone_fails_no_call(world: World, bench: Bench):
    first, _ = put_due(bench, A, B)
    world.sender.broken = True
    world.answer(OK, answered(409))

    assert world.recovery.run_slice(first).calls == 2
    assert bench.state(A) is State.COMPLETED


# --- the lease -------------------------------------------------------------------------------------------------------


def test_a_call_is_sent_only_while_the_lease_lasts_for_its_deadline_and_the_margin():
    assert may_send(ROUTE, held=0.0)
    assert may_send(ROUTE, held=START)
    assert not may_send(ROUTE, held=START + 0.001)


def test_a_lease_that_is_nearly_over_sends_nothing_and_spends_no_attempt(
    world: World, bench: Bench, monkeypatch: pytest.MonkeyPatch
):
    """The commit of the claim took so long that the call could outlive the lease."""
    (job_id,) = put_due(bench, A)
    transact = bench.ledger.transact

    def slow(work: Any) -> Any:
        found = transact(work)
        world.advance(START + 1)
        return found

    with monkeypatch.context() as patch:
        patch.setattr(bench.ledger, "transact", slow)
        world.recovery.run_slice(job_id)

    assert world.api.requests == []
    assert (bench.state(), bench.job(A)["attempts"], bench.job(A)["misses"]) == (State.RETRYABLE, 0, 1)
    world.advance(60)
    world.recovery.run_slice(job_id)
    assert bench.count_completed() == 1


class Locked:
    """A ledger that does not answer for so many transactions, from the first settle on."""

    def __init__(self, world: World, patch: pytest.MonkeyPatch, times: int) -> None:
        self.left = times
        self._transact = world.bench.ledger.transact
        self._world = world
        patch.setattr(world.bench.ledger, "transact", self.transact)

    def transact(self, work: Any) -> Any:
        if self._world.api.requests and self.left:
            self.left -= 1
            raise LedgerUnavailable("the ledger does not answer: database is locked")
        return self._transact(work)


def test_a_ledger_that_is_locked_when_the_call_ends_is_asked_again(world: World, bench: Bench, monkeypatch: pytest.MonkeyPatch):
    (job_id,) = put_due(bench, A)
    Locked(world, monkeypatch, 4)

    world.recovery.run_slice(job_id)
    assert bench.count_completed() == 1
    assert len(world.naps) == 4
    assert len(world.api.requests) == 1
    assert bench.sums() == {"accepted": 1, "recovered": 1}


def test_a_ledger_that_stays_locked_beyond_the_lease_is_told_and_the_job_is_called_again(
    world: World, bench: Bench, monkeypatch: pytest.MonkeyPatch
):
    (job_id,) = put_due(bench, A)
    with monkeypatch.context() as patch:
        Locked(world, patch, 10**6)
        with pytest.raises(LedgerUnavailable):
            world.recovery.run_slice(job_id)
    assert world.time <= 1000.0 + ROUTE.lease
    assert bench.state() is State.EXECUTING

    world.advance(ROUTE.lease)
    assert Maintenance(bench.ledger, world.routes, world.sender).rescue() == 1
    world.advance(ROUTE.drain)
    world.recovery.run_slice(job_id)
    assert bench.count_completed() == 1
    first, second = (request.fence for request in world.api.requests)
    assert second > first


def test_a_call_that_ends_after_its_lease_was_taken_still_covers_what_it_began_after(world: World, bench: Bench):
    (job_id,) = put_due(bench, A)
    sweeps = Maintenance(bench.ledger, world.routes, world.sender)

    def slow(_request: SyncRequest) -> SyncResult:
        bench.put(a_letter(A))
        world.advance(ROUTE.lease)
        assert sweeps.rescue() == 1
        return OK

    world.answer(slow)
    done = world.recovery.run_slice(job_id)

    assert (done.calls, bench.count_completed()) == (1, 0)
    assert bench.sums() == {"accepted": 2, "recovered": 1, "pending": 1}


# --- what this process lacks -------------------------------------------------------------------------------------------------


def test_a_shortage_ends_the_slice_and_counts_for_no_job_however_long_it_lasts(world: World, bench: Bench):
    [first, second] = put_due(bench, A, B)
    world.answer(*[SyncResult(answer=Answer.NOT_SENT, short="this process may open no more files")] * 60)
    for _ in range(60):
        done = world.recovery.run_slice(first)
        assert (bench.count_completed(), done.retry_at) == (0, None), (
            "else each wake-up would live on, beside those that it makes"
        )
        world.advance(20)
    assert len(world.api.requests) == 60, "one try a wake-up"
    assert world.sender.sent == []
    Maintenance(bench.ledger, world.routes, world.sender).promote()
    assert len(world.sender.sent) == 1, "a sweep looks whether it is over"
    with bench.ledger.begin(read_only=True) as tx:
        found = tx.connection.execute(select(jobs.c.id, jobs.c.state, jobs.c.attempts, jobs.c.misses)).all()
    assert {each.id for each in found} == {first, second}
    assert {(each.attempts, each.misses) for each in found} == {(0, 0)}
    assert State.PARKED not in {each.state for each in found}
    world.answer()
    world.recovery.run_slice(first)
    assert bench.count_completed() == 2
