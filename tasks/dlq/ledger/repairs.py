"""Repairing: rejected dead letters become needs after all, each exactly once, whoever else is at it.

A letter keeps its row, its identity and its place in the tallies: in one transaction it stops being rejected and has its needs,
so that the audit balances at every moment. It is compare-and-set on "still rejected".

Locks are taken as by intake: letters first, here by id, then keys sorted.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select, update

from tasks.dlq.errors import NotFound
from tasks.dlq.ledger import operations
from tasks.dlq.ledger.dead_letters import attach_needs
from tasks.dlq.ledger.savepoints import REFUSALS, is_the_rows_fault
from tasks.dlq.ledger.schema import dead_letters
from tasks.dlq.ports import Record

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from sqlalchemy import ColumnElement

    from tasks.dlq.dead_letter import DeadLetter
    from tasks.dlq.ledger.engine import Transaction

#: Letters of one batch, and bytes of their bodies unless a single one has more.
BATCH = 200
BATCH_BYTES = 16 << 20


class Result(StrEnum):
    """What became of a rejected letter."""

    REPAIRED = "repaired"
    REJECTED = "rejected"  # again, with the reason as it is now
    CHANGED = "changed"  # it is not rejected any more: someone else repaired it


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Which of the rejected letters are meant; None is all. `until` is the highest id of a set that is to stay as it was seen."""

    ids: Collection[int] | None = None
    source: str | None = None
    reason: str | None = None
    until: int | None = None

    def where(self) -> list[ColumnElement[bool]]:
        """Return the conditions."""
        column = dead_letters.c
        conditions: list[ColumnElement[bool]] = [column.reject_reason.is_not(None)]
        if self.ids is not None:
            conditions.append(column.id.in_(self.ids))
        if self.source is not None:
            conditions.append(column.source == self.source)
        if self.reason is not None:
            conditions.append(column.reject_reason == self.reason)
        if self.until is not None:
            conditions.append(column.id <= self.until)
        return conditions


@dataclass(frozen=True, kw_only=True)
class Rejected:
    """A rejected letter, as a record that can be read again."""

    id: int
    source: str
    record: Record


@dataclass(frozen=True, kw_only=True)
class Rereading:
    """What a rejected letter is read as now; `body` are other bytes that it was read from, where a person gave some."""

    id: int
    letter: DeadLetter
    body: bytes | None = None


@dataclass(frozen=True, kw_only=True)
class Repaired:
    """What a batch became, by letter, and the jobs that now wait because of it."""

    results: Mapping[int, Result] = field(default_factory=dict)
    opened: Sequence[tuple[str, int]] = ()  # (route, job id)


def count(tx: Transaction, selection: Selection) -> Counter[tuple[str, str]]:
    """Count rejected letters by source and reason."""
    source, reason = dead_letters.c.source, dead_letters.c.reject_reason
    counted = select(source, reason, func.count()).where(*selection.where()).group_by(source, reason).order_by(source, reason)
    return Counter({(row[0], row[1]): row[2] for row in tx.connection.execute(counted)})


def last(tx: Transaction, selection: Selection, *, limit: int | None = None) -> int | None:
    """Return the highest id of the first `limit` letters (of all without one); None when there is no letter."""
    ids = select(dead_letters.c.id).where(*selection.where()).order_by(dead_letters.c.id).limit(limit).subquery()
    found = tx.connection.scalar(select(func.max(ids.c.id)))
    return None if found is None else int(found)


def not_rejected(tx: Transaction, ids: Collection[int]) -> dict[int, bool]:
    """Return those of the ids that no rejected letter has, each with whether any letter has it."""
    column = dead_letters.c
    known = {
        row.id: row.reject_reason
        for row in tx.connection.execute(select(column.id, column.reject_reason).where(column.id.in_(ids)))
    }
    return {each: each in known for each in ids if known.get(each) is None}


def next_batch(tx: Transaction, selection: Selection, *, after: int, limit: int = BATCH) -> list[Rejected]:
    """Return the next rejected letters behind the id `after`, oldest first: as many as memory surely holds."""
    column = dead_letters.c
    sizes = select(column.id, func.length(column.body)).where(*selection.where(), column.id > after)
    ids: list[int] = []
    room = BATCH_BYTES
    for letter_id, size in tx.connection.execute(sizes.order_by(column.id).limit(limit)):
        room -= size
        if ids and room < 0:
            break
        ids.append(letter_id)
    rows = tx.connection.execute(select(dead_letters).where(column.id.in_(ids)).order_by(column.id))
    return [
        Rejected(
            id=row.id,
            source=row.source,
            record=Record(identity=row.identity, body=row.body, origin=json.loads(row.origin), stream=row.stream),
        )
        for row in rows
    ]


def original_body(tx: Transaction, letter_id: int) -> bytes:
    """Return the bytes of a letter as they arrived, whatever became of it since.

    Raises:
        NotFound: no letter has this id.
    """
    arrived = select(func.coalesce(dead_letters.c.original_body, dead_letters.c.body)).where(dead_letters.c.id == letter_id)
    found = tx.connection.scalar(arrived)
    if found is None:
        raise NotFound(f"no dead letter {letter_id}", hint="list those that were rejected with: redrive rejects")
    return bytes(found)


def repair(
    tx: Transaction, rereadings: Sequence[Rereading], *, delays: Mapping[str, float], actor: str, reason: str = ""
) -> Repaired:
    """Attach the needs of letters that can be read now, and write down who had it done and why; renew the reason of the others.

    Args:
        tx: an open transaction.
        rereadings: in any order.
        delays: seconds from now until a newly opened job of the route is due, by route.
        actor: who repairs.
        reason: why, for the audit log.
    """
    ordered = sorted(rereadings, key=lambda each: each.id)
    try:
        with tx.connection.begin_nested():
            return _repair(tx, ordered, delays, actor, reason)
    except REFUSALS as error:
        if not is_the_rows_fault(error):
            raise
    results: dict[int, Result] = {}
    opened: list[tuple[str, int]] = []
    for each in ordered:
        try:
            with tx.connection.begin_nested():
                done = _repair(tx, [each], delays, actor, reason)
        except REFUSALS as error:
            if not is_the_rows_fault(error):
                raise
            kept = _set(tx, each.id, reject_reason="unstorable", reject_detail="the ledger would not store what it needs")
            done = Repaired(results={each.id: Result.REJECTED if kept else Result.CHANGED})
        results |= done.results
        opened += done.opened
    return Repaired(results=results, opened=opened)


def _repair(tx: Transaction, rereadings: Sequence[Rereading], delays: Mapping[str, float], actor: str, reason: str) -> Repaired:
    results = {each.id: _settle(tx, each) for each in rereadings}
    mended = [each for each in rereadings if results[each.id] is Result.REPAIRED]
    opened = attach_needs(tx, [(each.id, each.letter) for each in mended], delays, tx.now())
    for each in mended:
        subject = f"letter {each.id}{_digest(each.body)}"
        operations.log(tx, actor=actor, action="repair", subject=subject, reason=reason)
    return Repaired(results=results, opened=opened)


def _settle(tx: Transaction, reread: Rereading) -> Result:
    """Take the letter out of the rejected ones, or renew the reason; it has to be one of them still."""
    rejection = reread.letter.rejection
    if rejection:
        kept = _set(tx, reread.id, reject_reason=rejection.reason, reject_detail=rejection.detail)
        return Result.REJECTED if kept else Result.CHANGED
    values: dict[str, Any] = {"reject_reason": None, "reject_detail": None}
    if reread.body is not None:
        values |= {"body": reread.body, "original_body": dead_letters.c.body}
    return Result.REPAIRED if _set(tx, reread.id, **values) else Result.CHANGED


def _set(tx: Transaction, letter_id: int, **values: Any) -> bool:
    still = (dead_letters.c.id == letter_id, dead_letters.c.reject_reason.is_not(None))
    return tx.connection.execute(update(dead_letters).where(*still).values(**values)).rowcount == 1


def _digest(body: bytes | None) -> str:
    return "" if body is None else f", by the body sha256:{hashlib.sha256(body).hexdigest()}"
