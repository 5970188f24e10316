"""What a person does to jobs: replay and discard, each compare-and-set on what the person saw.

"Changed meanwhile, skipped" is an answer: between the look and the act a need may have come or a worker may have called.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import select, update

from tasks.dlq.job import CLOSED, WAITING, State
from tasks.dlq.ledger.schema import FRESH_BUDGET, audit_log, jobs

if TYPE_CHECKING:
    from tasks.dlq.ledger.engine import Transaction


def replay(tx: Transaction, job_id: int, *, state: State, last_seq: int) -> bool:
    """Open a closed job again with a fresh budget, due now. False: it is not as it was seen (or was never closed)."""
    now = tx.now()
    statement = (
        update(jobs)
        .where(jobs.c.id == job_id, jobs.c.state == state, jobs.c.last_seq == last_seq, jobs.c.state.in_(CLOSED))
        .values(state=State.SCHEDULED, due_at=now, changed_at=now, **FRESH_BUDGET)
    )
    return tx.connection.execute(statement).rowcount == 1


def discard(tx: Transaction, job_id: int, *, state: State, last_seq: int) -> bool:
    """Put a waiting or parked job aside for good; its uncovered needs count as discarded. False: not as it was seen."""
    statement = (
        update(jobs)
        .where(jobs.c.id == job_id, jobs.c.state == state, jobs.c.last_seq == last_seq)
        .where(jobs.c.state.in_((*WAITING, State.PARKED)))
        .values(state=State.DISCARDED, changed_at=tx.now())
    )
    return tx.connection.execute(statement).rowcount == 1


def seen(tx: Transaction, job_id: int) -> tuple[State, int] | None:
    """Return what a person sees of a job and an act compares with: its state and last_seq."""
    row = tx.connection.execute(select(jobs.c.state, jobs.c.last_seq).where(jobs.c.id == job_id)).one_or_none()
    return (State(row.state), row.last_seq) if row else None


def log(tx: Transaction, *, actor: str, action: str, subject: str, reason: str = "") -> None:
    """Write down who did what to what, and why."""
    entry = {"at": tx.now(), "actor": actor, "action": action, "subject": subject, "reason": reason}
    tx.connection.execute(audit_log.insert(), entry)
