"""What stands between a due job and its call: the route's pause, its not-before, its breaker and its limit.

Everything here is read and written under the lock on the route's row, which is always taken before a job's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select, update

from tasks.dlq.calls.breaker import Breaker
from tasks.dlq.ledger.schema import executing, jobs, routes

if TYPE_CHECKING:
    from collections.abc import Iterable

    from sqlalchemy import Row

    from tasks.dlq.ledger.engine import Transaction


def ensure_routes(tx: Transaction, names: Iterable[str]) -> None:
    """Give each route its row; those that have one keep it."""
    statement = tx.insert(routes).on_conflict_do_nothing(index_elements=["name"])
    for name in sorted(names):
        tx.connection.execute(statement, {"name": name})


def lock_route(tx: Transaction, name: str) -> Row[Any]:
    """Lock the route's row to the commit and return it. Two claims of one route stand in line here."""
    statement = select(routes).where(routes.c.name == name).with_for_update()
    row = tx.connection.execute(statement).one_or_none()
    if row is None:
        ensure_routes(tx, [name])
        row = tx.connection.execute(statement).one()
    return row


def occupied(tx: Transaction, name: str, now: int) -> int:
    """Count the route's slots in use: executing jobs (until settled or rescued), and those that rest after an unknown outcome."""
    calling = select(func.count()).where(jobs.c.route == name, executing)
    resting = select(func.count()).where(jobs.c.route == name, jobs.c.rest_until > now, ~executing)
    return tx.connection.scalars(calling).one() + tx.connection.scalars(resting).one()


def is_shut(route: Row[Any], now: int) -> bool:
    """Tell whether no call of the route may begin now: paused, or asked by the API to wait."""
    return route.paused_at is not None or bool(route.not_before > now)


def hold_route(tx: Transaction, name: str, until: int) -> None:
    """Let no call of the route begin before `until` (Retry-After); an earlier time never shortens a later one."""
    later = update(routes).where(routes.c.name == name, routes.c.not_before < until).values(not_before=until)
    tx.connection.execute(later)


def breaker_of(route: Row[Any]) -> Breaker:
    """Return the breaker as the route's row keeps it."""
    return Breaker(open=route.breaker_open, faults=route.faults, first_key=route.fault_key, probe_at=route.probe_at)


def keep_breaker(tx: Transaction, name: str, breaker: Breaker, *, probed: int | None = None) -> None:
    """Write the breaker into the route's row, and which job its probe went to."""
    values: dict[str, Any] = {
        "breaker_open": breaker.open,
        "faults": breaker.faults,
        "fault_key": breaker.first_key,
        "probe_at": breaker.probe_at,
    }
    if probed is not None:
        values["probed"] = probed
    tx.connection.execute(update(routes).where(routes.c.name == name).values(values))


def pause_route(tx: Transaction, name: str, *, by: str, reason: str) -> bool:
    """Pause the route; return False when it was paused already (its first reason stands)."""
    lock_route(tx, name)
    statement = (
        update(routes)
        .where(routes.c.name == name, routes.c.paused_at.is_(None))
        .values(paused_at=tx.now(), paused_by=by, pause_reason=reason)
    )
    return tx.connection.execute(statement).rowcount == 1


def resume_route(tx: Transaction, name: str) -> bool:
    """Resume the route with a closed breaker; return False when it was not paused."""
    lock_route(tx, name)
    statement = (
        update(routes)
        .where(routes.c.name == name, routes.c.paused_at.is_not(None))
        .values(paused_at=None, paused_by=None, pause_reason=None, breaker_open=False, faults=0, fault_key=None)
    )
    return tx.connection.execute(statement).rowcount == 1
