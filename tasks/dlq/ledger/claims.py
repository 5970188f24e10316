"""The claim: one worker's lease on one due job. The route's limit of open calls holds exactly.

The route's row is locked before open calls are counted. Without the lock, two claims could both count none and both call.
"""

from __future__ import annotations

import json
import secrets
from typing import TYPE_CHECKING, Any

from sqlalchemy import and_, or_, select, update

from tasks.dlq.job import Claim, State
from tasks.dlq.ledger.schema import attempts, jobs, waiting

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Select

    from tasks.dlq.ledger.engine import Transaction
    from tasks.dlq.ledger.routes import LockedRoute


def claim(locked: LockedRoute, *, worker: str) -> Claim | None:
    """Lease the route's job that has been due for longest. The job that a wake-up names has no priority: others would starve.

    Returns:
        The claim. None if nothing is due, no slot is free, the route is paused or must wait, or its breaker is open and no
        probe is due. The call may begin after the transaction has committed.
    """
    if locked.is_shut:
        return None
    occupied = locked.count_occupied()
    if locked.breaker.open:
        return _claim_probe(locked, worker=worker) if occupied == 0 else None
    if occupied >= locked.route.max_in_flight:
        return None
    due = select(jobs.c.id).where(is_due(locked.route.name, locked.now)).order_by(jobs.c.due_at, jobs.c.id)
    job_id = _select_first(locked.tx, due)
    return _lease(locked, job_id, worker=worker) if job_id is not None else None


def _claim_probe(locked: LockedRoute, *, worker: str) -> Claim | None:
    """Lease the due job that follows the last probed one, so that one failing key cannot keep the breaker open."""
    if locked.now < locked.breaker.probe_at:
        return None
    due = select(jobs.c.id).where(is_due(locked.route.name, locked.now)).order_by(jobs.c.id)
    job_id = _select_first(locked.tx, due.where(jobs.c.id > locked["probed"])) or _select_first(locked.tx, due)
    if job_id is None:
        return None
    probing = locked.breaker.probing(now=locked.now, interval=locked.route.probe_interval)
    return _lease(locked, job_id, worker=worker, probe_at=probing.probe_at, probed=job_id)


def is_due(route: str, now: int) -> ColumnElement[bool]:
    """Return the condition: a job of the route waits, is due, and does not rest after a call whose outcome is unknown."""
    return and_(
        jobs.c.route == route,
        waiting,
        jobs.c.due_at <= now,
        or_(jobs.c.rest_until.is_(None), jobs.c.rest_until <= now),
    )


def _select_first(tx: Transaction, statement: Select[int]) -> int | None:
    return tx.connection.scalar(statement.limit(1).with_for_update(skip_locked=True))


def _lease(locked: LockedRoute, job_id: int, *, worker: str, **route_values: Any) -> Claim:
    token = secrets.token_hex(16)
    # By the clock, so that fences also grow after a ledger was lost or restored: docs/adr/0003-lease-and-fence.md
    fence = max(locked["fence"] + 1, locked.now)
    locked.write(fence=fence, **route_values)
    statement = (
        update(jobs)
        .where(jobs.c.id == job_id)
        .values(
            state=State.EXECUTING,
            token=token,
            fence=fence,
            lease_until=locked.now + round(locked.route.lease * 1000),
            rest_until=None,
            claimed_seq=jobs.c.last_seq,
            calls=jobs.c.calls + 1,
            changed_at=locked.now,
        )
        .returning(jobs.c.key, jobs.c.calls, jobs.c.claimed_seq, jobs.c.attempts, jobs.c.misses)
    )
    job = locked.tx.connection.execute(statement).one()
    attempt = {
        "job_id": job_id,
        "number": job.calls,
        "token": token,
        "fence": fence,
        "covers_seq": job.claimed_seq,
        "worker": worker,
        "began_at": locked.now,
    }
    locked.tx.connection.execute(attempts.insert(), attempt)
    return Claim(
        job_id=job_id,
        route=locked.route.name,
        key=job.key,
        parameters=json.loads(job.key),
        token=token,
        fence=fence,
        number=job.calls,
        covers_seq=job.claimed_seq,
        attempts=job.attempts,
        misses=job.misses,
    )
