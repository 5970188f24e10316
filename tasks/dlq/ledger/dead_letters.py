"""Intake: writes dead letters and their needs into the ledger, in batches, each record once. Coalescing happens here.

Locks are taken in the same order everywhere: letters by identity, then keys sorted, then tallies.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import case, func, literal_column
from sqlalchemy.exc import DBAPIError

from tasks.dlq.dead_letter import DeadLetter, Rejection
from tasks.dlq.job import CLOSED, State
from tasks.dlq.ledger.savepoints import REFUSALS, is_bad_row
from tasks.dlq.ledger.schema import FRESH_BUDGET, dead_letters, jobs, needs, tallies

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tasks.dlq.ledger.engine import Transaction

_JSON = json.JSONEncoder(ensure_ascii=True, separators=(",", ":"), default=str)
_IDENTITY_LIMIT = 200
_STREAM_LIMIT = 300


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """What a batch became."""

    #: Letters that are new to the ledger.
    accepted: int = 0
    #: Letters that the ledger had already.
    known: int = 0
    #: How many of the accepted letters are rejected.
    rejected: int = 0
    #: The jobs that became due because of the batch, as (route, job id), oldest first.
    opened: Sequence[tuple[str, int]] = ()

    def __add__(self, other: Recorded) -> Recorded:
        return Recorded(
            accepted=self.accepted + other.accepted,
            known=self.known + other.known,
            rejected=self.rejected + other.rejected,
            opened=[*self.opened, *other.opened],
        )


def record_dead_letters(tx: Transaction, letters: Sequence[DeadLetter], *, delays: Mapping[str, float]) -> Recorded:
    """Write a batch of dead letters. A row that the database refuses becomes a rejected letter; the others are written.

    Args:
        tx: an open transaction; the caller acknowledges the source after its commit.
        letters: in any order, duplicates allowed.
        delays: seconds from now until a newly opened job of the route is due, by route.
    """
    ordered = sorted(letters, key=lambda letter: (letter.source, letter.identity))
    try:
        with tx.connection.begin_nested():
            return _record(tx, ordered, delays)
    except REFUSALS as error:
        if not is_bad_row(error):
            raise
        return _one_by_one(tx, ordered, delays)


def _one_by_one(tx: Transaction, letters: Sequence[DeadLetter], delays: Mapping[str, float]) -> Recorded:
    total = Recorded()
    for letter in letters:
        try:
            with tx.connection.begin_nested():
                total += _record(tx, [letter], delays)
        except REFUSALS as error:
            if not is_bad_row(error):
                raise
            total += _record(tx, [_storable(letter, error)], delays)
    return total


def _storable(letter: DeadLetter, error: Exception) -> DeadLetter:
    """Return the letter with only what can surely be stored: its bytes, and its identity and stream if these are plain text."""
    identity, plain = letter.identity, _is_plain(letter.stream, _STREAM_LIMIT)
    if not _is_plain(identity, _IDENTITY_LIMIT):
        identity = "sha256:" + hashlib.sha256(identity.encode("utf-8", "surrogatepass")).hexdigest()
    cause = error.orig if isinstance(error, DBAPIError) else error
    return DeadLetter(
        source=letter.source,
        identity=identity,
        stream=letter.stream if plain else "",
        offset=letter.offset if plain else None,
        body=letter.body,
        rejection=Rejection(reason="unstorable", detail=f"the ledger would not store it: {type(cause).__name__}"),
    )


def _is_plain(text: str, limit: int) -> bool:
    return text.isascii() and text.isprintable() and len(text) <= limit


def _record(tx: Transaction, letters: Sequence[DeadLetter], delays: Mapping[str, float]) -> Recorded:
    now = tx.now()
    fresh = _insert_letters(tx, letters, now)
    opened = attach_needs(tx, fresh, delays, now)
    _tally(tx, [letter for _, letter in fresh], now)
    return Recorded(
        accepted=len(fresh),
        known=len(letters) - len(fresh),
        rejected=sum(letter.rejection is not None for _, letter in fresh),
        opened=opened,
    )


def _insert_letters(tx: Transaction, letters: Sequence[DeadLetter], now: int) -> list[tuple[int, DeadLetter]]:
    """Insert the letters that the ledger does not have. Return them with their new ids, in the given order."""
    by_identity: dict[tuple[str, str], DeadLetter] = {}
    for letter in letters:
        by_identity.setdefault((letter.source, letter.identity), letter)
    if not by_identity:
        return []
    statement = (
        tx.insert(dead_letters)
        .on_conflict_do_nothing(index_elements=["source", "identity"])
        .returning(dead_letters.c.id, dead_letters.c.source, dead_letters.c.identity)
    )
    rows = tx.connection.execute(statement, [_letter_row(letter, now) for letter in by_identity.values()])
    ids = {(row.source, row.identity): row.id for row in rows}
    return [(ids[identity], letter) for identity, letter in by_identity.items() if identity in ids]


def _letter_row(letter: DeadLetter, now: int) -> dict[str, Any]:
    return {
        "source": letter.source,
        "identity": letter.identity,
        "stream": letter.stream,
        "origin": _JSON.encode(letter.origin),
        "body": letter.body,
        "received_at": now,
        "reject_reason": letter.rejection.reason if letter.rejection else None,
        "reject_detail": letter.rejection.detail if letter.rejection else None,
    }


def attach_needs(
    tx: Transaction, fresh: Sequence[tuple[int, DeadLetter]], delays: Mapping[str, float], now: int
) -> list[tuple[str, int]]:
    """Attach the letters' needs to their jobs, one job per key, and number them. Return the jobs that this opened.

    One upsert per key adds all its needs of the batch and locks the row until the commit, so that numbers commit in order.
    """
    wanted: dict[tuple[str, str], list[int]] = {}
    for letter_id, letter in fresh:
        for key in letter.keys:
            wanted.setdefault((letter.route, key), []).append(letter_id)
    if not wanted:
        return []
    due = {route: now + round(delays[route] * 1000) for route, _ in wanted}
    values = [attach_values(route, key, len(ids), due[route], now) for (route, key), ids in sorted(wanted.items())]
    attached = {(job.route, job.key): job for job in tx.connection.execute(attach_statement(tx), values)}
    opened: list[tuple[str, int]] = []
    rows: list[dict[str, int]] = []
    for (route, key), letter_ids in sorted(wanted.items()):
        job = attached[route, key]
        first = job.last_seq - len(letter_ids) + 1
        rows += [{"dead_letter_id": letter_id, "job_id": job.id, "seq": first + n} for n, letter_id in enumerate(letter_ids)]
        if job.state == State.SCHEDULED and job.due_at == due[route]:
            opened.append((route, job.id))
    tx.connection.execute(needs.insert(), rows)
    return opened


def attach_statement(tx: Transaction) -> Any:
    """Return the upsert that attaches needs to a key's job. A waiting or executing job keeps its state and due time."""
    statement = tx.insert(jobs)
    new = statement.excluded
    was_closed = jobs.c.state.in_(
        [literal_column(f"'{state}'") for state in CLOSED]
    )  # literals, because many rows share the statement

    def when_closed(value: Any, column: Any) -> Any:
        return case((was_closed, value), else_=column)

    return statement.on_conflict_do_update(
        index_elements=["route", "key"],
        set_={
            "last_seq": jobs.c.last_seq + new.last_seq,
            "state": when_closed(new.state, jobs.c.state),
            "due_at": when_closed(new.due_at, jobs.c.due_at),
            "changed_at": when_closed(new.changed_at, jobs.c.changed_at),
            # The cause of earlier failures may have been fixed.
            **{name: when_closed(value, jobs.c[name]) for name, value in FRESH_BUDGET.items()},
        },
    ).returning(jobs.c.id, jobs.c.route, jobs.c.key, jobs.c.last_seq, jobs.c.state, jobs.c.due_at)


def attach_values(route: str, key: str, count: int, due_at: int, now: int) -> dict[str, Any]:
    """Return the row of a job for a new key."""
    return {
        "route": route,
        "key": key,
        "state": State.SCHEDULED,
        "due_at": due_at,
        "last_seq": count,
        "created_at": now,
        "changed_at": now,
    }


def _tally(tx: Transaction, letters: Sequence[DeadLetter], now: int) -> None:
    """Count the accepted letters independently of their rows, for the audit, and note the range of their offsets."""
    streams: dict[tuple[str, str], list[int | None]] = {}
    for letter in letters:
        streams.setdefault((letter.source, letter.stream), []).append(letter.offset)
    statement = tx.insert(tallies)
    new = statement.excluded
    statement = statement.on_conflict_do_update(
        index_elements=["source", "stream"],
        set_={
            "accepted": tallies.c.accepted + new.accepted,
            "last_at": new.last_at,
            # A comparison with null is not true: then there are no offsets yet, or never.
            "first_offset": case(
                (tallies.c.first_offset <= new.first_offset, tallies.c.first_offset), else_=_either(new, "first")
            ),
            "last_offset": case((tallies.c.last_offset >= new.last_offset, tallies.c.last_offset), else_=_either(new, "last")),
        },
    )
    for (source, stream), offsets in sorted(streams.items()):
        numbered = [offset for offset in offsets if offset is not None]
        row = {"source": source, "stream": stream, "accepted": len(offsets), "first_at": now, "last_at": now}
        tx.connection.execute(
            statement, {**row, "first_offset": min(numbered, default=None), "last_offset": max(numbered, default=None)}
        )


def _either(new: Any, end: str) -> Any:
    return func.coalesce(new[f"{end}_offset"], tallies.c[f"{end}_offset"])
