"""Queries for people: jobs, rejected dead letters, routes and counts, mostly as JSON-ready dictionaries.

Lists use keyset pagination (`after` an id, the newest first), so that page 1,000 costs as much as page 1.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select

from tasks.dlq.errors import NotFound
from tasks.dlq.ledger.schema import attempts, dead_letters, jobs, needs, routes
from tasks.dlq.text import format_time

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from sqlalchemy import Row

    from tasks.dlq.ledger.engine import Transaction


@dataclass(frozen=True, kw_only=True)
class Standing:
    """What became of a record."""

    #: The id of its dead letter.
    letter: int
    #: Its jobs, as `view_job` returns them; none if it is rejected.
    jobs: list[dict[str, Any]]
    reject_reason: str | None
    reject_detail: str | None


def list_jobs(
    tx: Transaction,
    *,
    route: str | None = None,
    states: Sequence[str] = (),
    group: str | None = None,
    after: int | None = None,
    limit: int = 50,
) -> list[dict[str, Any]]:
    """Return jobs, the newest first; `after` continues below that id."""
    statement = select(jobs).order_by(jobs.c.id.desc()).limit(limit)
    if route:
        statement = statement.where(jobs.c.route == route)
    if states:
        statement = statement.where(jobs.c.state.in_(states))
    if group:
        statement = statement.where(jobs.c.group_key == group)
    if after is not None:
        statement = statement.where(jobs.c.id < after)
    return [view_job(row) for row in tx.connection.execute(statement)]


def find_jobs(tx: Transaction, ids: Collection[int]) -> dict[int, dict[str, Any]]:
    """Return the jobs with these ids, by id. At most some thousands: each id is a bound value."""
    return {row.id: view_job(row) for row in tx.connection.execute(select(jobs).where(jobs.c.id.in_(ids)))}


def list_rejected(
    tx: Transaction, *, reason: str | None = None, after: int | None = None, limit: int = 50
) -> list[dict[str, Any]]:
    """Return rejected dead letters, the newest first; `after` continues below that id."""
    statement = select(dead_letters).where(dead_letters.c.reject_reason.is_not(None))
    statement = statement.order_by(dead_letters.c.id.desc()).limit(limit)
    if reason:
        statement = statement.where(dead_letters.c.reject_reason == reason)
    if after is not None:
        statement = statement.where(dead_letters.c.id < after)
    return [view_letter(row) for row in tx.connection.execute(statement)]


def show_job(tx: Transaction, job_id: int, *, limit: int = 50) -> dict[str, Any]:
    """Return a job with its latest attempts and dead letters.

    Raises:
        NotFound: no job has this id.
    """
    row = tx.connection.execute(select(jobs).where(jobs.c.id == job_id)).one_or_none()
    if row is None:
        raise NotFound(f"no job {job_id}", hint="list them with: redrive jobs")
    made = select(attempts).where(attempts.c.job_id == job_id).order_by(attempts.c.number.desc()).limit(limit)
    held = (
        select(dead_letters, needs.c.seq)
        .join(needs, needs.c.dead_letter_id == dead_letters.c.id)
        .where(needs.c.job_id == job_id)
        .order_by(needs.c.seq.desc())
        .limit(limit)
    )
    return {
        **view_job(row),
        "attempts_made": [_view_attempt(attempt) for attempt in tx.connection.execute(made)],
        "dead_letters": [
            {**view_letter(letter), "recovered": letter.seq <= row.covered_seq} for letter in tx.connection.execute(held)
        ],
    }


def count_jobs(tx: Transaction) -> dict[str, dict[str, int]]:
    """Return how many jobs each route has in each state."""
    statement = select(jobs.c.route, jobs.c.state, func.count()).group_by(jobs.c.route, jobs.c.state)
    result: dict[str, dict[str, int]] = {}
    for route, state, count in tx.connection.execute(statement):
        result.setdefault(route, {})[state] = count
    return result


def list_routes(tx: Transaction) -> list[dict[str, Any]]:
    """Return each route with its pause, breaker and waiting time."""
    return [
        {
            "route": row.name,
            "paused": row.paused_at is not None,
            "paused_by": row.paused_by,
            "pause_reason": row.pause_reason,
            "paused_at": format_time(row.paused_at),
            "breaker": "open" if row.breaker_open else "closed",
            "not_before": format_time(row.not_before) if row.not_before else None,
        }
        for row in tx.connection.execute(select(routes).order_by(routes.c.name))
    ]


def find_route_of(tx: Transaction, job_id: int) -> str | None:
    """Return the name of a job's route; None if there is no such job."""
    name: str | None = tx.connection.scalar(select(jobs.c.route).where(jobs.c.id == job_id))
    return name


def find_standings(tx: Transaction, source: str, identities: Collection[str]) -> dict[str, Standing]:
    """Return what became of records, by identity. At most some hundreds: each identity is a bound value."""
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
            standing.jobs.append(view_job(row))
    return found


def find_paused_routes(tx: Transaction, names: Collection[str]) -> list[str]:
    """Return which of these routes are paused."""
    statement = select(routes.c.name).where(routes.c.name.in_(names), routes.c.paused_at.is_not(None)).order_by(routes.c.name)
    return list(tx.connection.scalars(statement))


def view_job(row: Row[Any]) -> dict[str, Any]:
    """Return a job as a JSON-ready dictionary."""
    return {
        "id": row.id,
        "route": row.route,
        "parameters": json.loads(row.key),
        "state": row.state,
        "due_at": format_time(row.due_at),
        "needs": row.last_seq,
        "covered": row.covered_seq,
        "attempts": row.attempts,
        "calls": row.calls,
        "crashes": row.crashes,
        "fence": row.fence,
        "outcome": row.outcome,
        "status": row.status,
        "detail": row.detail,
        "group": row.group_key,
        "created_at": format_time(row.created_at),
        "changed_at": format_time(row.changed_at),
    }


def view_letter(row: Row[Any]) -> dict[str, Any]:
    """Return a dead letter as a JSON-ready dictionary: its body as text, with escapes for bytes that are not UTF-8."""
    return {
        "id": row.id,
        "source": row.source,
        "identity": row.identity,
        "stream": row.stream,
        "origin": json.loads(row.origin),
        "received_at": format_time(row.received_at),
        "body": row.body[:4096].decode("utf-8", "backslashreplace"),
        "bytes": len(row.body),
        "reject_reason": row.reject_reason,
        "reject_detail": row.reject_detail,
    }


def _view_attempt(row: Row[Any]) -> dict[str, Any]:
    return {
        "number": row.number,
        "fence": row.fence,
        "covers": row.covers_seq,
        "worker": row.worker,
        "began_at": format_time(row.began_at),
        "ended_at": format_time(row.ended_at),
        "outcome": row.outcome,
        "status": row.status,
        "detail": row.detail,
    }
