"""Failure groups: parked jobs of one route that failed for the same cause. Each query reads a bounded number of rows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import func, literal, select

from tasks.dlq.job import State
from tasks.dlq.ledger.schema import jobs

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from sqlalchemy import ColumnElement, Row, ScalarSelect, Select

    from tasks.dlq.ledger.engine import Transaction

#: The walk over the groups stops after this number.
MAX_GROUPS = 10_000
#: A group's jobs are counted up to this number.
MAX_COUNT = 100_000


def first_parked_jobs(tx: Transaction, *, always: Collection[str] = ()) -> Iterator[Row[Any]]:
    """Yield, for each failure group, the job that was parked first.

    Args:
        tx: an open transaction.
        always: keys of groups that are looked up even when the walk stops before them.
    """
    seen = set()
    for job in tx.connection.execute(_walk()):
        seen.add(job.group_key)
        yield job
    for key in sorted(set(always) - seen):
        yield from tx.connection.execute(select(jobs).where(jobs.c.id == _first_parked(key)))


def count_parked(tx: Transaction, group_key: str) -> int:
    """Return how many jobs of the group are parked, at most `MAX_COUNT`."""
    parked = select(jobs.c.id).where(jobs.c.group_key == group_key, jobs.c.state == State.PARKED).limit(MAX_COUNT).subquery()
    return tx.connection.scalars(select(func.count()).select_from(parked)).one()


def _walk() -> Select[Any]:
    """Step through the distinct group keys by the index, and join each to its first parked job.

    This is a loose index scan: it does not read the jobs of a group. See https://wiki.postgresql.org/wiki/Loose_indexscan.
    """
    first = select(func.min(jobs.c.group_key).label("key"), literal(1).label("step")).where(jobs.c.group_key > "")
    walk = first.cte("walk", recursive=True)
    following = select(func.min(jobs.c.group_key)).where(jobs.c.group_key > walk.c.key).scalar_subquery()
    walk = walk.union_all(select(following, walk.c.step + 1).where(walk.c.key.is_not(None), walk.c.step < MAX_GROUPS))
    return select(jobs).join_from(walk, jobs, jobs.c.id == _first_parked(walk.c.key))


def _first_parked(key: str | ColumnElement[str]) -> ScalarSelect[int]:
    """Select the id of the group's job that was parked first."""
    parked = jobs.alias("parked")
    in_group = select(parked.c.id).where(parked.c.group_key == key, parked.c.state == State.PARKED)
    return in_group.order_by(parked.c.changed_at).limit(1).scalar_subquery()
