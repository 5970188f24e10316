"""Repair of rejected dead letters: each gets its needs exactly once, even if two repairs run at the same time.

A letter keeps its row, its identity and its place in the tallies. One transaction clears its rejection and attaches its needs, so
that the audit always balances. The update is compare-and-set: the letter must still be rejected.

Locks are taken in the order of intake: letters first (here by id), then keys, sorted.
"""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select, update

from tasks.dlq.dead_letter import Rejection
from tasks.dlq.errors import NotFound
from tasks.dlq.ledger import operations
from tasks.dlq.ledger.dead_letters import attach_needs
from tasks.dlq.ledger.savepoints import REFUSALS, is_bad_row
from tasks.dlq.ledger.schema import dead_letters
from tasks.dlq.ports import Record

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from sqlalchemy import ColumnElement

    from tasks.dlq.dead_letter import DeadLetter
    from tasks.dlq.ledger.engine import Transaction

#: Letters of one batch, and bytes of their bodies; a single letter may have more.
BATCH = 200
BATCH_BYTES = 16 << 20
#: Why a letter is rejected again that could be read.
UNSTORABLE = Rejection(reason="unstorable", detail="the ledger would not store what it needs")


class Result(StrEnum):
    """What a repair did to a letter."""

    REPAIRED = "repaired"
    #: It was rejected again; the reason is the new one.
    REJECTED = "rejected"
    #: It could not be read again, because its source is not configured.
    LEFT_ALONE = "left_alone"
    #: It is no longer rejected: another repair came first.
    CHANGED = "changed"
    NOT_REJECTED = "not_rejected"
    NOT_FOUND = "not_found"


@dataclass(frozen=True, kw_only=True)
class Selection:
    """Which rejected letters to repair. None does not restrict."""

    ids: Collection[int] | None = None
    source: str | None = None
    #: The reason for which they were rejected.
    reason: str | None = None
    #: The highest id: letters that are rejected later do not belong to the selection.
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
    """A rejected letter."""

    id: int
    source: str
    #: The letter as its source delivered it, so that it can be read again.
    record: Record


@dataclass(frozen=True, kw_only=True)
class Repaired:
    """What a repair did to a batch of letters."""

    #: What it did to each letter, by id.
    results: Mapping[int, Result] = field(default_factory=dict)
    #: The jobs that now wait because of it: (route, job id).
    opened: Sequence[tuple[str, int]] = ()


def count_by_reason(tx: Transaction, selection: Selection) -> Counter[str]:
    """Count rejected letters by the reason for which they were rejected."""
    reason = dead_letters.c.reject_reason
    counted = select(reason, func.count()).where(*selection.where()).group_by(reason).order_by(reason)
    return Counter({row[0]: row[1] for row in tx.connection.execute(counted)})


def find_last(tx: Transaction, selection: Selection, *, limit: int | None = None) -> int:
    """Return the highest id of the first `limit` letters (None: of all); 0 if there is no letter."""
    ids = select(dead_letters.c.id).where(*selection.where()).order_by(dead_letters.c.id).limit(limit).subquery()
    return int(tx.connection.scalar(select(func.coalesce(func.max(ids.c.id), 0))) or 0)


def find_not_rejected(tx: Transaction, ids: Collection[int]) -> dict[int, Result]:
    """Return those of the ids that are not rejected letters: NOT_REJECTED or NOT_FOUND, by id."""
    column = dead_letters.c
    rows = tx.connection.execute(select(column.id, column.reject_reason).where(column.id.in_(ids)))
    known = {row.id: row.reject_reason for row in rows}
    return {
        letter_id: Result.NOT_REJECTED if letter_id in known else Result.NOT_FOUND
        for letter_id in ids
        if known.get(letter_id) is None
    }


def find_next_batch(tx: Transaction, selection: Selection, *, after: int, limit: int = BATCH) -> list[Rejected]:
    """Return the next rejected letters after the id `after`, oldest first: as many as fit into memory."""
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


def find_original_body(tx: Transaction, letter_id: int) -> bytes:
    """Return the bytes of a letter as they arrived, also if it was repaired with others since.

    Raises:
        NotFound: no letter has this id.
    """
    arrived = select(func.coalesce(dead_letters.c.original_body, dead_letters.c.body)).where(dead_letters.c.id == letter_id)
    found = tx.connection.scalar(arrived)
    if found is None:
        raise NotFound(f"no dead letter {letter_id}", hint="list those that were rejected with: redrive rejects")
    return bytes(found)


def repair(
    tx: Transaction,
    letters: Mapping[int, DeadLetter],
    *,
    delays: Mapping[str, float],
    actor: str,
    reason: str = "",
    body: bytes | None = None,
) -> Repaired:
    """Attach the needs of letters that can be read now, and write the audit log; update the reason of the others.

    Args:
        tx: an open transaction.
        letters: what the rejected letters are read as now, by id.
        delays: by route, seconds until a newly opened job is due.
        actor: who asks for it.
        reason: why.
        body: the bytes that an operator gave, if the letters were read from those.
    """
    by = f", by the body sha256:{hashlib.sha256(body).hexdigest()}" if body is not None else ""

    def repair_some(ids: Sequence[int]) -> Repaired:
        with tx.connection.begin_nested():
            results = {letter_id: _update_rejection(tx, letter_id, letters[letter_id], body) for letter_id in ids}
            repaired = [letter_id for letter_id in ids if results[letter_id] is Result.REPAIRED]
            opened = attach_needs(tx, [(letter_id, letters[letter_id]) for letter_id in repaired], delays, tx.now())
            for letter_id in repaired:
                operations.log(tx, actor=actor, action="repair", subject=f"letter {letter_id}{by}", reason=reason)
            return Repaired(results=results, opened=opened)

    try:
        return repair_some(sorted(letters))
    except REFUSALS as error:
        if not is_bad_row(error):
            raise
    results: dict[int, Result] = {}
    opened: list[tuple[str, int]] = []
    for letter_id in sorted(letters):
        try:
            done = repair_some([letter_id])
        except REFUSALS as error:
            if not is_bad_row(error):
                raise
            done = Repaired(results={letter_id: _reject(tx, letter_id, UNSTORABLE)})
        results |= done.results
        opened += done.opened
    return Repaired(results=results, opened=opened)


def _update_rejection(tx: Transaction, letter_id: int, letter: DeadLetter, body: bytes | None) -> Result:
    """Clear the letter's rejection, or update its reason, if it is still rejected."""
    if letter.rejection:
        return _reject(tx, letter_id, letter.rejection)
    values: dict[str, Any] = {"reject_reason": None, "reject_detail": None}
    if body is not None:
        values |= {"body": body, "original_body": dead_letters.c.body}
    return Result.REPAIRED if _set(tx, letter_id, **values) else Result.CHANGED


def _reject(tx: Transaction, letter_id: int, rejection: Rejection) -> Result:
    kept = _set(tx, letter_id, reject_reason=rejection.reason, reject_detail=rejection.detail)
    return Result.REJECTED if kept else Result.CHANGED


def _set(tx: Transaction, letter_id: int, **values: Any) -> bool:
    still = (dead_letters.c.id == letter_id, dead_letters.c.reject_reason.is_not(None))
    return tx.connection.execute(update(dead_letters).where(*still).values(**values)).rowcount == 1
