"""What waits in the ledger, and what stops it: for health checks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import func, select

from tasks.dlq.job import WAITING, State
from tasks.dlq.ledger.claims import is_due
from tasks.dlq.ledger.schema import attempts, dead_letters, executing, jobs, routes

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import ColumnElement

    from tasks.dlq.ledger.engine import Transaction


@dataclass(frozen=True, kw_only=True)
class RouteBacklog:
    """The backlog of a route. Times are the ledger's milliseconds."""

    name: str
    paused: bool = False
    paused_by: str | None = None
    pause_reason: str | None = None
    breaker_open: bool = False
    #: No call may begin before (Retry-After); 0 if there is no such time.
    not_before: int = 0
    #: When the job that has been due for longest became due; None if no job is due.
    oldest_due: int | None = None
    #: Whether a call has begun lately.
    called_lately: bool = False


@dataclass(frozen=True, kw_only=True)
class OpenCall:
    """A call that has not been settled."""

    #: The process that makes it: `host:pid`.
    worker: str
    #: The end of its lease, in the ledger's milliseconds.
    lease_until: int


@dataclass(frozen=True, kw_only=True)
class Backlog:
    """The backlog at one moment."""

    #: That moment, in the ledger's milliseconds.
    now: int
    routes: Sequence[RouteBacklog] = ()
    calls: Sequence[OpenCall] = ()
    #: Jobs that wait, and jobs that are parked.
    waiting: int = 0
    parked: int = 0
    #: Dead letters that are rejected.
    rejected: int = 0


def read_backlog(tx: Transaction, *, lately: float) -> Backlog:
    """Return the backlog; a call that began within `lately` seconds has begun lately."""
    now = tx.now()
    began = attempts.c.began_at > now - round(lately * 1000)
    called = set(
        tx.connection.scalars(select(jobs.c.route).distinct().join(attempts, attempts.c.job_id == jobs.c.id).where(began))
    )
    open_calls = select(attempts.c.worker, jobs.c.lease_until).join(jobs, jobs.c.token == attempts.c.token).where(executing)
    return Backlog(
        now=now,
        routes=[
            RouteBacklog(
                name=row.name,
                paused=row.paused_at is not None,
                paused_by=row.paused_by,
                pause_reason=row.pause_reason,
                breaker_open=row.breaker_open,
                not_before=row.not_before,
                oldest_due=tx.connection.scalar(select(func.min(jobs.c.due_at)).where(is_due(row.name, now))),
                called_lately=row.name in called,
            )
            for row in tx.connection.execute(select(routes).order_by(routes.c.name)).all()
        ],
        calls=[OpenCall(worker=row.worker, lease_until=row.lease_until) for row in tx.connection.execute(open_calls)],
        waiting=_count(tx, jobs.c.state.in_(WAITING)),
        parked=_count(tx, jobs.c.state == State.PARKED),
        rejected=_count(tx, dead_letters.c.reject_reason.is_not(None)),
    )


def _count(tx: Transaction, where: ColumnElement[bool]) -> int:
    return tx.connection.scalars(select(func.count()).where(where)).one()
