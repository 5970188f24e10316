"""What an operator does: replay and discard jobs, pause and resume routes.

The command line calls these services, and so can a web page. A change and its entry in the audit log are one transaction.
Workers are woken after its commit.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from tasks.dlq.job import CLOSED, State
from tasks.dlq.ledger import operations
from tasks.dlq.ledger.operations import DISCARDABLE, Seen
from tasks.dlq.ledger.routes import lock_route
from tasks.dlq.ledger.wakeups import promote_due_jobs, reset_timeouts
from tasks.dlq.services.wakeups import NO_WAKEUPS, WakeResult, send_wakeups, wake_jobs

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence

    from sqlalchemy import Row

    from tasks.dlq.calls.route import Route
    from tasks.dlq.errors import BrokerUnavailable
    from tasks.dlq.job import Wakeup
    from tasks.dlq.ledger import Ledger, Transaction
    from tasks.dlq.ports import WakeupSender

#: Why a job is skipped that is not as it was seen.
_CHANGED = "changed meanwhile"


class Result(StrEnum):
    """What an operation did to a job."""

    DONE = "done"
    SKIPPED = "skipped"
    NOT_FOUND = "not_found"


@dataclass(frozen=True, kw_only=True)
class JobResult:
    """What an operation did to one job."""

    job_id: int
    route: str = ""
    result: Result
    #: Why the job was skipped.
    reason: str = ""


@dataclass(frozen=True, kw_only=True)
class Changed:
    """What an operation did to jobs."""

    #: One result for each job, in the order in which the jobs were given.
    jobs: Sequence[JobResult]
    #: Why replayed jobs are not called soon.
    wakeups: WakeResult = NO_WAKEUPS


@dataclass(frozen=True, kw_only=True)
class Resumed:
    """What `resume` did."""

    #: Whether the route was paused.
    changed: bool
    #: Why wake-ups were not sent, if so. The next sweep sends them.
    unsent: BrokerUnavailable | None = None


class Operations:
    """Operator actions on one ledger. Each takes the operator's name (`actor`) and a `reason` for the audit log."""

    def __init__(self, ledger: Ledger, routes: Mapping[str, Route], sender: WakeupSender) -> None:
        self._ledger = ledger
        self._routes = routes
        self._sender = sender

    def replay(self, jobs: Mapping[int, Seen | None], *, actor: str, reason: str = "") -> Changed:
        """Call closed jobs (completed, parked or discarded) again: now, and with a fresh budget.

        All of it is one transaction: give at most some hundreds of jobs at once.

        Args:
            jobs: what the operator saw of each job, by id; None if there was no such job. A job that is different now is skipped.
            actor: who asks for it.
            reason: why.
        """
        change = _Change(
            action="replay", actor=actor, reason=reason, states=CLOSED, routes=self._routes, update=operations.replay
        )
        results = self._change(jobs, change)
        opened = [(one.route, one.job_id) for one in results if one.result is Result.DONE]
        return Changed(jobs=results, wakeups=wake_jobs(self._ledger, self._sender, self._routes, opened))

    def discard(self, jobs: Mapping[int, Seen | None], *, actor: str, reason: str = "") -> Changed:
        """Discard waiting or parked jobs: their uncovered needs count as discarded. Arguments and transaction as for `replay`."""
        change = _Change(action="discard", actor=actor, reason=reason, states=DISCARDABLE, update=operations.discard)
        return Changed(jobs=self._change(jobs, change))

    def pause(self, route: Route, *, actor: str, reason: str = "") -> bool:
        """Let no further call of the route begin. Return False if it is paused already; the first reason stays."""

        def work(tx: Transaction) -> bool:
            changed = lock_route(tx, route).pause(by=actor, reason=reason)
            if changed:
                operations.log(tx, actor=actor, action="pause", subject=f"route {route.name}", reason=reason)
            return changed

        return self._ledger.transact(work)

    def resume(self, route: Route, *, actor: str, reason: str = "") -> Resumed:
        """Let calls of a paused route begin again, with a closed breaker, and wake workers for what is due."""

        def resume(tx: Transaction) -> bool:
            changed = lock_route(tx, route).resume()
            if changed:
                operations.log(tx, actor=actor, action="resume", subject=f"route {route.name}", reason=reason)
            return changed

        def promote(tx: Transaction) -> list[Wakeup]:
            reset_timeouts(tx)
            return promote_due_jobs(lock_route(tx, route))

        changed = self._ledger.transact(resume)
        sent = send_wakeups(self._ledger, self._sender, self._ledger.transact(promote))
        return Resumed(changed=changed, unsent=sent.error)

    def _change(self, jobs: Mapping[int, Seen | None], change: _Change) -> list[JobResult]:
        def work(tx: Transaction) -> dict[int, JobResult]:
            return {row.id: change.apply(tx, row, jobs[row.id]) for row in operations.find_jobs(tx, jobs.keys())}

        found = self._ledger.transact(work)
        return [found.get(job_id, JobResult(job_id=job_id, result=Result.NOT_FOUND)) for job_id in jobs]


@dataclass(frozen=True, kw_only=True)
class _Change:
    """A change of jobs."""

    #: Its name in the audit log.
    action: str
    actor: str
    reason: str
    #: States in which a job can be changed.
    states: Collection[State]
    #: Routes whose jobs can be changed; None if any route's can.
    routes: Collection[str] | None = None
    #: The update of one job; returns False if the job is not as it was seen.
    update: Callable[..., bool]

    def apply(self, tx: Transaction, row: Row[int, str, str, int], seen: Seen | None) -> JobResult:
        """Change a job if it is as it was seen, and write the audit log."""
        why = self._refuse(row, seen)
        if not why and not self.update(tx, row.id, state=row.state, last_seq=row.last_seq):
            why = _CHANGED
        if why:
            return JobResult(job_id=row.id, route=row.route, result=Result.SKIPPED, reason=why)
        operations.log(tx, actor=self.actor, action=self.action, subject=f"job {row.id}", reason=self.reason)
        return JobResult(job_id=row.id, route=row.route, result=Result.DONE)

    def _refuse(self, row: Row[int, str, str, int], seen: Seen | None) -> str:
        """Return why a job is skipped; empty if it is not."""
        if (row.state, row.last_seq) != seen:
            return _CHANGED
        if self.routes is not None and row.route not in self.routes:
            return "its route is not in redrive.toml"
        return "" if row.state in self.states else f"it is {row.state}"
