"""A route in the ledger: the lock on its row, its pause, its breaker, and how many of its calls are open.

The row is locked once in a transaction, before any job's row. `LockedRoute` is that lock as a value: whoever has one may claim,
settle and reserve wake-ups.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select, update

from tasks.dlq.calls.breaker import Breaker
from tasks.dlq.ledger.schema import executing, jobs, routes

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from tasks.dlq.calls.route import Route
    from tasks.dlq.ledger.engine import Transaction


def ensure_routes(tx: Transaction, names: Iterable[str]) -> None:
    """Create the rows of routes that have none."""
    statement = tx.insert(routes).on_conflict_do_nothing(index_elements=["name"])
    for name in sorted(names):
        tx.connection.execute(statement, {"name": name})


def lock_route(tx: Transaction, route: Route) -> LockedRoute:
    """Lock the route's row until the transaction ends. Two claims of one route wait for each other here."""
    statement = select(routes).where(routes.c.name == route.name).with_for_update()
    row = tx.connection.execute(statement).mappings().one_or_none()
    if row is None:
        ensure_routes(tx, [route.name])
        row = tx.connection.execute(statement).mappings().one()
    return LockedRoute(tx, route, row)


class LockedRoute:
    """A route whose row is locked until the transaction ends. It shows what this transaction has written.

    Attributes:
        tx: the open transaction.
        route: the route's settings.
        now: the ledger's time in milliseconds, read after the lock was taken.
    """

    def __init__(self, tx: Transaction, route: Route, row: Mapping[Any, Any]) -> None:
        self.tx = tx
        self.route = route
        self.now = tx.now()
        self._row = dict(row)

    def __getitem__(self, column: str) -> Any:
        return self._row[column]

    def write(self, **values: Any) -> None:
        """Write columns of the route's row."""
        self.tx.connection.execute(update(routes).where(routes.c.name == self.route.name).values(values))
        self._row |= values

    @property
    def is_paused(self) -> bool:
        """Whether a person, or refused credentials, have paused the route."""
        return self["paused_at"] is not None

    @property
    def is_shut(self) -> bool:
        """Whether no call may begin now: the route is paused, or the API asked for a wait."""
        return self.is_paused or bool(self["not_before"] > self.now)

    @property
    def breaker(self) -> Breaker:
        """The route's circuit breaker."""
        return Breaker(open=self["breaker_open"], faults=self["faults"], first_key=self["fault_key"], probe_at=self["probe_at"])

    def save_breaker(self, breaker: Breaker) -> None:
        """Write the breaker if it has changed."""
        if breaker != self.breaker:
            self.write(breaker_open=breaker.open, faults=breaker.faults, fault_key=breaker.first_key, probe_at=breaker.probe_at)

    def count_occupied(self) -> int:
        """Count the slots in use: executing jobs, and jobs that rest because the outcome of their last call is unknown."""
        name = self.route.name
        calling = select(func.count()).where(jobs.c.route == name, executing)
        resting = select(func.count()).where(jobs.c.route == name, jobs.c.rest_until > self.now, ~executing)
        return self.tx.connection.scalars(calling).one() + self.tx.connection.scalars(resting).one()

    def hold_until(self, moment: int) -> None:
        """Let no call begin before `moment` (milliseconds). An earlier moment does not shorten a later one."""
        if self["not_before"] < moment:
            self.write(not_before=moment)

    def pause(self, *, by: str, reason: str) -> bool:
        """Pause the route. Return False if it is paused already; its first reason stays."""
        if self.is_paused:
            return False
        self.write(paused_at=self.now, paused_by=by, pause_reason=reason)
        return True

    def resume(self) -> bool:
        """Resume the route and close its breaker. Return False if it is not paused."""
        if not self.is_paused:
            return False
        self.write(paused_at=None, paused_by=None, pause_reason=None, breaker_open=False, faults=0, fault_key=None)
        return True
