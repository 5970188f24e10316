"""Pruning: work that is over leaves the ledger once no source can deliver it again; its sums stay in the tallies."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from sqlalchemy import delete, exists, select, update

from tasks.dlq.job import State
from tasks.dlq.ledger.audit import standing
from tasks.dlq.schema import dead_letters, jobs, needs, tallies

if TYPE_CHECKING:
    from tasks.dlq.ledger.engine import Transaction


def prune_letters(tx: Transaction, *, before: int, limit: int = 500) -> int:
    """Remove recovered and discarded letters received before `before`, oldest first; move their sums to the tallies.

    Parked, pending and rejected letters are never removed: a person may still want them.
    """
    letter = standing(dead_letters.c.received_at < before).subquery()
    over = (
        select(letter.c.id, letter.c.standing)
        .where(letter.c.standing.in_(("recovered", "discarded")))
        .order_by(letter.c.id)
        .limit(limit)
    )
    standings = {row.id: row.standing for row in tx.connection.execute(over)}
    # Their needs go with them. Another sweep may prune the same rows: only what this one removed moves its sums.
    gone = delete(dead_letters).where(dead_letters.c.id.in_(list(standings)))
    rows = tx.connection.execute(gone.returning(dead_letters.c.id, dead_letters.c.source, dead_letters.c.stream)).all()
    sums = Counter((row.source, row.stream, standings[row.id]) for row in rows)
    for (source, stream, name), count in sorted(sums.items()):
        moved = update(tallies).where(tallies.c.source == source, tallies.c.stream == stream)
        tx.connection.execute(moved.values({name: tallies.c[name] + count}))
    return len(rows)


def prune_jobs(tx: Transaction, *, before: int, limit: int = 500) -> int:
    """Remove completed and discarded jobs that no letter needs and that have not changed since `before`, with their attempts."""
    idle = (
        select(jobs.c.id)
        .where(jobs.c.state.in_((State.COMPLETED, State.DISCARDED)), jobs.c.changed_at < before)
        .where(~exists().where(needs.c.job_id == jobs.c.id))
        .order_by(jobs.c.id)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    ids = tx.connection.scalars(idle).all()
    tx.connection.execute(delete(jobs).where(jobs.c.id.in_(ids)))
    return len(ids)
