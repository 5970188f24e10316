"""Recovery: claim, call, settle, and on to the next that is due, for a slice of a few seconds.

A worker that is awake goes on by itself: a flood of ten thousand jobs costs a handful of wake-ups, because one message starts a
slice and the slice takes whatever is due on its route, one claim at a time.
"""

from __future__ import annotations

import json
import random
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog
from sqlalchemy import select

from tasks.dlq.calls.api import Answer, SyncRequest, SyncResult, classify
from tasks.dlq.calls.outcome import Outcome
from tasks.dlq.calls.retry import decide
from tasks.dlq.calls.retry_after import parse_retry_after
from tasks.dlq.calls.route import LEASE_MARGIN
from tasks.dlq.clock import boottime
from tasks.dlq.errors import InvalidParameter, LedgerUnavailable
from tasks.dlq.failures import group_key
from tasks.dlq.job import WAITING, Ending, Settled, State, Wakeup
from tasks.dlq.ledger import wakeups as bells
from tasks.dlq.ledger.claims import claim
from tasks.dlq.ledger.schema import jobs
from tasks.dlq.ledger.settlement import settle
from tasks.dlq.parameters import canonical_key, parse_parameters
from tasks.dlq.services.wakeups import ring_all
from tasks.dlq.shortage import HINT

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tasks.dlq.calls.api import SyncApi
    from tasks.dlq.calls.retry import Decision
    from tasks.dlq.calls.route import Route
    from tasks.dlq.job import Claim
    from tasks.dlq.ledger import Ledger, Transaction
    from tasks.dlq.ports import Doorbell

log = structlog.get_logger("redrive.recovery")

#: Seconds between two tries to write down how a call ended, while the ledger does not answer.
_SETTLE_AGAIN = 0.5
#: Characters of a detail.
_MAX_DETAIL = 200


def may_send(route: Route, *, held: float) -> bool:
    """Tell whether a lease held for so many seconds lasts for a call with its whole deadline, and the margin."""
    return route.lease - held >= route.deadline + LEASE_MARGIN


@dataclass(kw_only=True)
class Slice:
    """What one slice did. `retry_at` is when the named job's own wake-up is due (monotonic), for Celery's autoretry to send."""

    calls: int = 0
    completed: int = 0
    parked: int = 0
    paused: bool = False
    retry_at: float | None = None
    bells: list[tuple[float, int]] = field(default_factory=list)


class Recovery:
    """Makes calls on behalf of jobs. One at a time: single flight is the ledger's doing, not this object's."""

    def __init__(
        self,
        ledger: Ledger,
        routes: Mapping[str, Route],
        api: SyncApi,
        doorbell: Doorbell,
        *,
        slice_seconds: float,
        worker: str,
        monotonic: Callable[[], float] = boottime,
        wall: Callable[[], float] = time.time,
        rng: Callable[[], float] = random.random,
        sleep: Callable[[float], None] = time.sleep,
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self._ledger = ledger
        self._routes = routes
        self._api = api
        self._doorbell = doorbell
        self._slice_seconds = slice_seconds
        self._worker = worker
        self._monotonic = monotonic
        self._wall = wall
        self._rng = rng
        self._sleep = sleep
        self._stopping = stopping

    def run(self, job_id: int) -> Slice:
        """Answer a wake-up for `job_id`: call its route's due jobs, longest due first, for one slice.

        A worker that stops ends the call in hand; what else is due is rung for, and another worker, or the next, comes for it.
        One that has run out of what a call needs rings for nothing, at the cost of no job: the next sweep's bell looks again.

        Raises:
            LedgerUnavailable: the ledger does not answer; a call that was made is written down later as lost.
        """
        done = Slice()
        route = self._route_of(job_id)
        if route is None:
            return done
        stop_at = self._monotonic() + self._slice_seconds
        since = self._monotonic()
        early, current = self._ledger.transact(lambda tx: self._receive(tx, route, job_id))
        self._ring_later(done, early)
        while current is not None:
            result = self._call(route, current, since)
            ending, decision = self._judge(route, current, result)
            go_on = self._monotonic() < stop_at and not self._stopping() and not result.short
            since_next = self._monotonic()
            settled, following = self._settle(route, current, ending, decision, unknown=result.unknown, go_on=go_on, since=since)
            _tell(route, current, ending, settled)
            if result.short:
                log.warning("no call can be made", route=route.name, error=result.short, hint=HINT)
                self._ring(done)
                return done
            self._note(done, route, current, settled, decision, named=job_id)
            since, current = since_next, following
        self._ring_later(done, self._ledger.transact(lambda tx: bells.follow_up(tx, route)))
        self._ring(done)
        return done

    def _route_of(self, job_id: int) -> Route | None:
        with self._ledger.begin(read_only=True) as tx:
            name = tx.connection.scalar(select(jobs.c.route).where(jobs.c.id == job_id))
        if name is None:
            log.info("a wake-up for a job that is gone", job=job_id)
            return None
        if name not in self._routes:
            log.error("the job's route is not configured any more; the job waits in the ledger", job=job_id, route=name)
            return None
        return self._routes[name]

    def _receive(self, tx: Transaction, route: Route, job_id: int) -> tuple[list[Wakeup], Claim | None]:
        early = bells.receive(tx, route, job_id)
        return early, None if self._stopping() else claim(tx, route, worker=self._worker)

    def _call(self, route: Route, current: Claim, since: float) -> SyncResult:
        """Call, unless the route does not take the key, or the lease might end before the call has: then nothing is sent."""
        if why := _unfit(route, current.parameters):
            return SyncResult(answer=Answer.NOT_SENT, detail=f"not sent: {why}"[:_MAX_DETAIL])
        if not may_send(route, held=self._monotonic() - since):
            return SyncResult(answer=Answer.NOT_SENT, detail="the lease was nearly over before the call could begin")
        request = SyncRequest(
            route=route,
            parameters=current.parameters,
            job_id=current.job_id,
            attempt=current.number,
            fence=current.fence,
            ends_by=since + route.lease - LEASE_MARGIN,
        )
        return self._api.call(request)

    def _judge(self, route: Route, current: Claim, result: SyncResult) -> tuple[Ending, Decision]:
        outcome = classify(result, route.answers)
        missed = outcome is Outcome.NOT_SENT
        decision = decide(
            route.retry,
            outcome,
            attempts=current.attempts + (0 if missed else 1),
            misses=0 if result.short else current.misses + missed,
            retry_after=parse_retry_after(result.retry_after, now=self._wall()),
            rng=self._rng,
        )
        group = None
        if outcome is not Outcome.SUCCESS:
            group = group_key(route.name, outcome, result.status, result.detail)
        return Ending(
            outcome=outcome, status=result.status, detail=result.detail, group_key=group, short=bool(result.short)
        ), decision

    def _settle(
        self, route: Route, current: Claim, ending: Ending, decision: Decision, *, unknown: bool, go_on: bool, since: float
    ) -> tuple[Settled, Claim | None]:
        """Settle and claim the next in one transaction; keep trying while the lease lasts, for the call has been made."""

        def work(tx: Transaction) -> tuple[Settled, Claim | None]:
            settled = settle(tx, route, current, ending, decision, unknown=unknown)
            return settled, claim(tx, route, worker=self._worker) if go_on else None

        while True:
            try:
                return self._ledger.transact(work)
            except LedgerUnavailable as error:
                if self._monotonic() + _SETTLE_AGAIN > since + route.lease:
                    raise
                log.warning("the call's end waits for the ledger", job=current.job_id, error=error.message)
                self._sleep(_SETTLE_AGAIN)

    def _note(self, done: Slice, route: Route, current: Claim, settled: Settled, decision: Decision, *, named: int) -> None:
        done.calls += 1
        done.completed += settled.state is State.COMPLETED
        done.parked += settled.state is State.PARKED
        done.paused |= decision.pause
        if settled.state not in WAITING:
            return
        wakeups = self._ledger.transact(lambda tx: bells.reserve(tx, route, [current.job_id]))
        if settled.state is State.RETRYABLE and current.job_id == named and done.retry_at is None and wakeups:
            done.retry_at = self._monotonic() + wakeups[0].delay
        else:
            self._ring_later(done, wakeups)

    def _ring_later(self, done: Slice, wakeups: Sequence[Wakeup]) -> None:
        """Keep bells for the slice's end: a broker that is slow must not eat the lease of a call that waits."""
        done.bells += [(self._monotonic() + wakeup.delay, wakeup.job_id) for wakeup in wakeups]

    def _ring(self, done: Slice) -> None:
        now = self._monotonic()
        ring_all(self._ledger, self._doorbell, [Wakeup(job_id=job_id, delay=max(at - now, 0.0)) for at, job_id in done.bells])


def _unfit(route: Route, parameters: Mapping[str, str]) -> str:
    """Say why intake would not make this key now: the route has other types since, or the ledger was edited. Empty when it would.

    It counts as a miss, like all that is not sent: a worker that is older than the intake, in a deploy, leaves the key to others.
    """
    if not route.params:  # what its URL lacks or has too many of is told when it is expanded
        return ""
    try:
        taken = parse_parameters(route.params, parameters)
    except InvalidParameter as error:
        return f"{error.message}; {error.hint}"
    return "" if taken == parameters else f"the route writes the parameters as {canonical_key(taken)}"


def _tell(route: Route, current: Claim, ending: Ending, settled: Settled) -> None:
    log.info(
        "called",
        job=current.job_id,
        route=route.name,
        parameters=json.dumps(dict(current.parameters)),
        attempt=current.number,
        state=settled.state or "late",
        outcome=ending.outcome,
        status=ending.status,
    )
