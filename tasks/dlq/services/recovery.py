"""Recovery: claim a job, call the API, settle, and go on with the next due job, for a slice of a few seconds.

A worker that is awake goes on by itself. One wake-up starts a slice, and the slice takes whatever is due on its route, one
claim at a time. So ten thousand jobs cost a handful of wake-ups.
"""

from __future__ import annotations

import json
import random
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import structlog

from tasks.dlq.calls.api import Answer, SyncRequest, SyncResult, classify
from tasks.dlq.calls.outcome import CallEnd, Outcome
from tasks.dlq.calls.retry_after import parse_retry_after
from tasks.dlq.calls.route import LEASE_MARGIN
from tasks.dlq.clock import boottime
from tasks.dlq.errors import InvalidParameter, LedgerUnavailable
from tasks.dlq.failures import group_key
from tasks.dlq.job import WAITING, Settled, State, Wakeup
from tasks.dlq.key import make_key
from tasks.dlq.ledger.claims import claim
from tasks.dlq.ledger.queries import find_route_of
from tasks.dlq.ledger.routes import lock_route
from tasks.dlq.ledger.settlement import judge, settle
from tasks.dlq.ledger.wakeups import receive_wakeup, reserve_follow_up, reserve_wakeups
from tasks.dlq.parameters import parse_parameters
from tasks.dlq.services.wakeups import send_wakeups
from tasks.dlq.shortage import HINT

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tasks.dlq.calls.api import SyncApi
    from tasks.dlq.calls.route import Route
    from tasks.dlq.job import Claim
    from tasks.dlq.ledger import Ledger, Transaction
    from tasks.dlq.ports import WakeupSender

log = structlog.get_logger("redrive.recovery")

#: Seconds between two tries to settle while the ledger does not answer.
_SETTLE_RETRY = 0.5
#: Characters of a detail.
_MAX_DETAIL = 200


def may_send(route: Route, *, held: float) -> bool:
    """Whether a lease held for so many seconds lasts for a call with its whole deadline, and the margin."""
    return route.lease - held >= route.deadline + LEASE_MARGIN


@dataclass(kw_only=True)
class Slice:
    """What one slice did."""

    calls: int = 0
    parked: int = 0
    #: Whether a route was paused.
    paused: bool = False
    #: When the wake-up of the named job is due (monotonic seconds): Celery's autoretry sends it.
    retry_at: float | None = None
    #: Wake-ups to send at the end: when each is due (monotonic seconds), and its job.
    wakeups: list[tuple[float, int]] = field(default_factory=list)


class Recovery:
    """Calls the API for due jobs, one at a time. Single flight is kept by the ledger, not by this object.

    Args:
        ledger: the ledger.
        routes: the configured routes by name.
        api: makes the calls.
        sender: sends wake-ups.
        slice_seconds: how long a slice takes; its last call may end later.
        worker: this process's name, for the attempts.
        monotonic: returns seconds that also count while the machine is suspended.
        wall: returns seconds since the epoch, for HTTP dates.
        rng: returns random numbers in [0, 1).
        sleep: waits for seconds.
        stopping: whether this worker is to stop.
    """

    def __init__(
        self,
        ledger: Ledger,
        routes: Mapping[str, Route],
        api: SyncApi,
        sender: WakeupSender,
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
        self._sender = sender
        self._slice_seconds = slice_seconds
        self._worker = worker
        self._monotonic = monotonic
        self._wall = wall
        self._rng = rng
        self._sleep = sleep
        self._stopping = stopping

    def run_slice(self, job_id: int) -> Slice:
        """Answer a wake-up for `job_id`: call the due jobs of its route, longest due first, for one slice.

        A worker that stops ends the open call; a wake-up for the other due jobs brings another worker. A process that lacks a
        resource for calls ends the slice at no cost to a job; the next sweep sends another wake-up.

        Raises:
            LedgerUnavailable: the ledger does not answer. A call that was made is recorded as lost later.
        """
        done = Slice()
        route = self._find_route(job_id)
        if route is None:
            return done
        stop_at = self._monotonic() + self._slice_seconds
        claimed_at = self._monotonic()
        early, current = self._ledger.transact(lambda tx: self._receive(tx, route, job_id))
        self._keep_wakeups(done, early)
        while current is not None:
            result = self.call(route, current, claimed_at)
            go_on = self._monotonic() < stop_at and not self._stopping() and not result.short
            end = self.end_call(route, result)
            next_claimed_at = self._monotonic()
            settled, following = self.settle(route, current, end, go_on=go_on, claimed_at=claimed_at)
            _log_call(route, current, end, settled)
            if result.short:
                log.warning("call_impossible", route=route.name, error=result.short, hint=HINT)
                self._send_wakeups(done)
                return done
            self._count(done, route, current, settled, named=job_id)
            claimed_at, current = next_claimed_at, following
        self._keep_wakeups(done, self._ledger.transact(lambda tx: reserve_follow_up(lock_route(tx, route))))
        self._send_wakeups(done)
        return done

    def _find_route(self, job_id: int) -> Route | None:
        with self._ledger.begin(read_only=True) as tx:
            name = find_route_of(tx, job_id)
        if name is None:
            log.info("wakeup_obsolete", job=job_id, reason="the job is gone")
            return None
        if name not in self._routes:
            log.error("route_missing", job=job_id, route=name, hint="the job waits until redrive.toml has its route again")
            return None
        return self._routes[name]

    def _receive(self, tx: Transaction, route: Route, job_id: int) -> tuple[list[Wakeup], Claim | None]:
        locked = lock_route(tx, route)
        early = receive_wakeup(locked, job_id)
        return early, None if self._stopping() else claim(locked, worker=self._worker)

    def call(self, route: Route, current: Claim, claimed_at: float) -> SyncResult:
        """Call the API. Send nothing if the route no longer accepts the key, or the lease might end before the call."""
        if refusal := _check_key(route, current.parameters):
            return SyncResult(answer=Answer.NOT_SENT, detail=f"not sent: {refusal}"[:_MAX_DETAIL])
        if not may_send(route, held=self._monotonic() - claimed_at):
            return SyncResult(answer=Answer.NOT_SENT, detail="the lease was nearly over before the call could begin")
        request = SyncRequest(
            route=route,
            parameters=current.parameters,
            job_id=current.job_id,
            attempt=current.number,
            fence=current.fence,
            ends_by=claimed_at + route.lease - LEASE_MARGIN,
        )
        return self._api.call(request)

    def end_call(self, route: Route, result: SyncResult) -> CallEnd:
        """Return how a call ended, in the domain's terms."""
        outcome = classify(result, route.answers)
        failed = outcome is not Outcome.SUCCESS
        return CallEnd(
            outcome=outcome,
            status=result.status,
            detail=result.detail,
            group_key=group_key(route.name, outcome, result.status, result.detail) if failed else None,
            retry_after=parse_retry_after(result.retry_after, now=self._wall()),
            unknown=result.unknown,
            short=bool(result.short),
        )

    def settle(
        self, route: Route, current: Claim, end: CallEnd, *, go_on: bool, claimed_at: float
    ) -> tuple[Settled, Claim | None]:
        """Settle and claim the next job in one transaction. Keep trying while the lease lasts, for the call has been made."""
        chance = self._rng()

        def work(tx: Transaction) -> tuple[Settled, Claim | None]:
            locked = lock_route(tx, route)
            settled = settle(locked, current, end, judge(locked, current, end, chance=chance))
            return settled, claim(locked, worker=self._worker) if go_on else None

        while True:
            try:
                return self._ledger.transact(work)
            except LedgerUnavailable as error:
                if self._monotonic() + _SETTLE_RETRY > claimed_at + route.lease:
                    raise
                log.warning("settlement_delayed", job=current.job_id, error=error.message)
                self._sleep(_SETTLE_RETRY)

    def _count(self, done: Slice, route: Route, current: Claim, settled: Settled, *, named: int) -> None:
        done.calls += 1
        done.parked += settled.state is State.PARKED
        done.paused |= settled.paused
        if settled.state not in WAITING:
            return
        wakeups = self._ledger.transact(lambda tx: reserve_wakeups(lock_route(tx, route), [current.job_id]))
        if settled.state is State.RETRYABLE and current.job_id == named and done.retry_at is None and wakeups:
            done.retry_at = self._monotonic() + wakeups[0].delay
        else:
            self._keep_wakeups(done, wakeups)

    def _keep_wakeups(self, done: Slice, wakeups: Sequence[Wakeup]) -> None:
        """Keep wake-ups for the slice's end: a slow broker must not use up the lease of a waiting call."""
        done.wakeups += [(self._monotonic() + wakeup.delay, wakeup.job_id) for wakeup in wakeups]

    def _send_wakeups(self, done: Slice) -> None:
        now = self._monotonic()
        wakeups = [Wakeup(job_id=job_id, delay=max(due - now, 0.0)) for due, job_id in done.wakeups]
        send_wakeups(self._ledger, self._sender, wakeups)


def _check_key(route: Route, parameters: Mapping[str, str]) -> str:
    """Return why intake would not make this key now; empty if it would. The route's types or the ledger may have changed.

    It counts as a miss, as everything that is not sent: during a deploy, an older worker leaves the key to newer ones.
    """
    if not route.params:  # the URL's expansion finds missing and surplus parameters
        return ""
    try:
        parsed = parse_parameters(route.params, parameters)
    except InvalidParameter as error:
        return f"{error.message}; {error.hint}"
    return "" if parsed == parameters else f"the route writes the parameters as {make_key(parsed)}"


def _log_call(route: Route, current: Claim, end: CallEnd, settled: Settled) -> None:
    log.info(
        "call_ended",
        job=current.job_id,
        route=route.name,
        parameters=json.dumps(dict(current.parameters)),
        attempt=current.number,
        state=settled.state or "late",
        outcome=end.outcome,
        status=end.status,
    )
