"""What became of records, looked up by their identity."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import select

from tasks.dlq.ledger.queries import job_view
from tasks.dlq.ledger.schema import dead_letters, jobs, needs

if TYPE_CHECKING:
    from collections.abc import Collection

    from tasks.dlq.ledger.engine import Transaction


@dataclass(frozen=True, kw_only=True)
class Standing:
    """Where a dead letter stands: its jobs as people see them, or why it is rejected."""

    letter: int
    jobs: list[dict[str, Any]]
    reject_reason: str | None
    reject_detail: str | None


def standings(tx: Transaction, source: str, identities: Collection[str]) -> dict[str, Standing]:
    """Return where the letters of these identities stand, by identity. At most some hundreds: each is a bound value."""
    letter = dead_letters.c
    statement = (
        select(letter.id.label("letter"), letter.identity, letter.reject_reason, letter.reject_detail, jobs)
        .outerjoin(needs, needs.c.dead_letter_id == letter.id)
        .outerjoin(jobs, jobs.c.id == needs.c.job_id)
        .where(letter.source == source, letter.identity.in_(identities))
        .order_by(jobs.c.id)
    )
    found: dict[str, Standing] = {}
    for row in tx.connection.execute(statement):
        new = Standing(letter=row.letter, jobs=[], reject_reason=row.reject_reason, reject_detail=row.reject_detail)
        standing = found.setdefault(row.identity, new)
        if row.id is not None:
            standing.jobs.append(job_view(row))
    return found
