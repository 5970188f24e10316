"""The claim: one worker's lease on one due job, with the route's limit kept exactly.

The route's row is locked before anything is counted: without it two claims that both count no call in flight both call.
"""

from __future__ import annotations

import json
import secrets
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, or_, select, update

from tasks.dlq.job import Claim, State
from tasks.dlq.ledger.routes import breaker_of, is_shut, keep_breaker, lock_route, occupied
from tasks.dlq.ledger.schema import attempts, jobs, routes, waiting

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Row, Select

    from tasks.dlq.calls.route import Route
    from tasks.dlq.ledger.engine import Transaction


def claim(tx: Transaction, route: Route, *, worker: str) -> Claim | None:
    """Lease the route's job that has been due for longest: a wake-up's own job has no right of way, or it could starve others.

    Returns:
        The claim, or None: nothing is due, no slot is free, the route is paused or has to wait, or its breaker is open and no
        probe is due. The call may begin once the transaction has committed.
    """
    row = lock_route(tx, route.name)
    now = tx.now()
    if is_shut(row, now) or occupied(tx, route.name, now) >= route.max_in_flight:
        return None
    if row.breaker_open:
        return _probe(tx, route, row, worker=worker, now=now)
    found = _first(tx, select(jobs.c.id).where(due(route.name, now)).order_by(jobs.c.due_at, jobs.c.id))
    return _lease(tx, route, row, found, worker=worker, now=now) if found is not None else None


def _probe(tx: Transaction, route: Route, row: Row[Any], *, worker: str, now: int) -> Claim | None:
    """Lease the next due job after the one probed last, so that one poisoned key cannot keep the breaker open."""
    breaker = breaker_of(row)
    if now < breaker.probe_at or occupied(tx, route.name, now):
        return None
    any_due = select(jobs.c.id).where(due(route.name, now)).order_by(jobs.c.id)
    found = _first(tx, any_due.where(jobs.c.id > row.probed)) or _first(tx, any_due)
    if found is None:
        return None
    keep_breaker(tx, route.name, breaker.probing(now=now, interval=route.probe_interval), probed=found)
    return _lease(tx, route, row, found, worker=worker, now=now, probe=True)


def due(route: str, now: int) -> ColumnElement[bool]:
    """Return the condition that a job of the route waits, is due, and rests from no call whose outcome is unknown."""
    return and_(
        jobs.c.route == route,
        waiting,
        jobs.c.due_at <= now,
        or_(jobs.c.rest_until.is_(None), jobs.c.rest_until <= now),
    )


def _first(tx: Transaction, statement: Select[int]) -> int | None:
    return tx.connection.scalar(statement.limit(1).with_for_update(skip_locked=True))


def _lease(tx: Transaction, route: Route, row: Row[Any], job_id: int, *, worker: str, now: int, probe: bool = False) -> Claim:
    token = secrets.token_hex(16)
    fence = max(row.fence + 1, now)  # by the clock, so that it grows over a lost or restored ledger, too: docs/adr/0003
    tx.connection.execute(update(routes).where(routes.c.name == route.name).values(fence=fence))
    statement = (
        update(jobs)
        .where(jobs.c.id == job_id)
        .values(
            state=State.EXECUTING,
            token=token,
            fence=fence,
            lease_until=now + round(route.lease * 1000),
            rest_until=None,
            claimed_seq=jobs.c.last_seq,
            calls=jobs.c.calls + 1,
            changed_at=now,
        )
        .returning(*jobs.c)
    )
    job = tx.connection.execute(statement).one()
    tx.connection.execute(
        attempts.insert(),
        {
            "job_id": job_id,
            "number": job.calls,
            "token": token,
            "fence": fence,
            "mark": job.claimed_seq,
            "worker": worker,
            "began_at": now,
        },
    )
    return Claim(
        job_id=job_id,
        route=route.name,
        key=job.key,
        parameters=json.loads(job.key),
        token=token,
        fence=fence,
        number=job.calls,
        mark=job.claimed_seq,
        attempts=job.attempts,
        misses=job.misses,
        lease_until=job.lease_until,
        probe=probe,
    )
