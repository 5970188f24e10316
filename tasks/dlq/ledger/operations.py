"""What an operator changes: replay and discard of a job, and the audit log of it.

Each change is compare-and-set on what the operator saw. Between the look and the change a need may arrive, or a worker may call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy import select, update

from tasks.dlq.job import CLOSED, WAITING, State
from tasks.dlq.ledger.schema import FRESH_BUDGET, audit_log, jobs

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from sqlalchemy import Row

    from tasks.dlq.ledger.engine import Transaction

#: States in which a job can be discarded.
DISCARDABLE = (*WAITING, State.PARKED)


class Seen(NamedTuple):
    """A job as an operator saw it."""

    state: State
    #: How many needs the job had.
    last_seq: int


def find_jobs(tx: Transaction, job_ids: Collection[int]) -> Sequence[Row[int, str, str, int]]:
    """Return id, route, state and last_seq of these jobs, in the order in which they are to be locked."""
    statement = select(jobs.c.id, jobs.c.route, jobs.c.state, jobs.c.last_seq).where(jobs.c.id.in_(job_ids))
    return tx.connection.execute(statement.order_by(jobs.c.route, jobs.c.key)).all()


def replay(tx: Transaction, job_id: int, *, state: State, last_seq: int) -> bool:
    """Open a closed job again with a fresh budget, due now. Return False if it is not as it was seen, or not closed."""
    now = tx.now()
    statement = (
        update(jobs)
        .where(jobs.c.id == job_id, jobs.c.state == state, jobs.c.last_seq == last_seq, jobs.c.state.in_(CLOSED))
        .values(state=State.SCHEDULED, due_at=now, changed_at=now, **FRESH_BUDGET)
    )
    return tx.connection.execute(statement).rowcount == 1


def discard(tx: Transaction, job_id: int, *, state: State, last_seq: int) -> bool:
    """Discard a waiting or parked job; its uncovered needs count as discarded. Return False if it is not as it was seen."""
    statement = (
        update(jobs)
        .where(jobs.c.id == job_id, jobs.c.state == state, jobs.c.last_seq == last_seq, jobs.c.state.in_(DISCARDABLE))
        .values(state=State.DISCARDED, changed_at=tx.now())
    )
    return tx.connection.execute(statement).rowcount == 1


def log(tx: Transaction, *, actor: str, action: str, subject: str, reason: str = "") -> None:
    """Write into the audit log who did what to what, and why."""
    entry = {"at": tx.now(), "actor": actor, "action": action, "subject": subject, "reason": reason}
    tx.connection.execute(audit_log.insert(), entry)
