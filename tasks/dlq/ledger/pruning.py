"""Pruning: removes finished letters after no source can deliver them again. Their sums stay in the tallies.

Each old letter is checked once. A letter that is not finished then (parked, for example) is checked again a day later. A prune
skips those letters by an index, so its cost does not grow with their number.
"""

from __future__ import annotations

from collections import Counter
from itertools import islice
from typing import TYPE_CHECKING

from sqlalchemy import delete, exists, select, update

from tasks.dlq.job import State
from tasks.dlq.ledger.audit import select_standings
from tasks.dlq.ledger.schema import ATTEMPTS_KEPT, attempts, busy, dead_letters, jobs, needs, tallies

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy import ColumnElement

    from tasks.dlq.ledger.engine import Transaction

#: Milliseconds until a letter that was not finished is checked again.
_RECHECK_AFTER = 86_400_000
#: Batches that one prune checks, as long as the letters in them are not finished.
_BATCHES = 20
#: Attempts of remaining jobs that one prune removes.
_ATTEMPTS = 10_000


def prune_letters(tx: Transaction, *, before: int, limit: int = 500) -> int:
    """Remove up to `limit` recovered and discarded letters received before `before`; move their sums to the tallies.

    Letters that were never checked come first, oldest first. Parked, pending and rejected letters are never removed, because a
    person may need them. When one of them finishes, it is removed within a day.
    """
    removed, now = 0, tx.now()
    for _ in range(_BATCHES):
        found = _next(tx, limit, dead_letters.c.kept_until.is_(None), dead_letters.c.received_at < before)
        found += _next(tx, limit - len(found), dead_letters.c.kept_until <= now)
        old = select_standings(dead_letters.c.id.in_(found), dead_letters.c.received_at < before)
        standings = {row.id: row.standing for row in tx.connection.execute(old)}
        over = {letter: standings[letter] for letter in found if standings.get(letter) in {"recovered", "discarded"}}
        _keep(tx, [letter for letter in found if letter not in over], until=now + _RECHECK_AFTER)
        removed += _remove(tx, dict(islice(over.items(), limit - removed)))
        if len(found) < limit or removed == limit:
            break
    return removed


def _next(tx: Transaction, limit: int, *where: ColumnElement[bool]) -> list[int]:
    """Return the ids of the letters to check, in the order of their index."""
    place = (dead_letters.c.kept_until, dead_letters.c.received_at, dead_letters.c.id)
    return list(tx.connection.scalars(select(dead_letters.c.id).where(*where).order_by(*place).limit(limit)))


def _keep(tx: Transaction, letters: Sequence[int], *, until: int) -> None:
    """Check the letters again at `until`."""
    tx.connection.execute(update(dead_letters).where(dead_letters.c.id.in_(letters)).values(kept_until=until))


def _remove(tx: Transaction, over: Mapping[int, str]) -> int:
    """Remove letters (id to standing) with their needs. Return how many were still there.

    Another sweep may prune the same rows at the same time: only the rows that this one removed change the sums.
    """
    gone = delete(dead_letters).where(dead_letters.c.id.in_(list(over)))
    rows = tx.connection.execute(gone.returning(dead_letters.c.id, dead_letters.c.source, dead_letters.c.stream)).all()
    sums = Counter((row.source, row.stream, over[row.id]) for row in rows)
    for (source, stream, name), count in sorted(sums.items()):
        moved = update(tallies).where(tallies.c.source == source, tallies.c.stream == stream)
        tx.connection.execute(moved.values({name: tallies.c[name] + count}))
    return len(rows)


def prune_jobs(tx: Transaction, *, before: int, limit: int = 500) -> int:
    """Remove completed and discarded jobs without letters that have not changed since `before`, with their attempts.

    A remaining job keeps its newest hundred attempts, and those that began after `before`.
    """
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
    _prune_attempts(tx, before)
    return len(ids)


def _prune_attempts(tx: Transaction, before: int) -> None:
    """Remove old attempts of jobs that are never finished: otherwise these would grow without bound."""
    began_at = attempts.c.began_at + 0  # keeps the database from using the index on began_at, which has the attempts of all jobs
    old = (
        select(attempts.c.id)
        .join(jobs, jobs.c.id == attempts.c.job_id)
        .where(busy, attempts.c.number <= jobs.c.calls - ATTEMPTS_KEPT, began_at < before)
        .limit(_ATTEMPTS)
    )
    tx.connection.execute(delete(attempts).where(attempts.c.id.in_(old)))
