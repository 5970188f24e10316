"""The ledger's clock. Due times and leases of all workers are compared by one clock: the database's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from sqlalchemy import literal_column, select

if TYPE_CHECKING:
    from sqlalchemy import Connection, Select

#: Expressions for "whole milliseconds since the epoch, at this statement". PostgreSQL's now() is the transaction's start, which
#: may be seconds back once a lock was waited for: hence clock_timestamp(). 2440587.5 is the epoch as a Julian day.
_EXPRESSIONS = {
    "sqlite": "CAST(round((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER)",
    "postgresql": "CAST(floor(extract(epoch FROM clock_timestamp()) * 1000) AS BIGINT)",
}
_STATEMENTS: dict[str, Select[Any]] = {name: select(literal_column(expression)) for name, expression in _EXPRESSIONS.items()}


class Clock(Protocol):
    """Tells the time of the ledger."""

    def read(self, connection: Connection) -> int:
        """Return whole milliseconds since the epoch."""
        ...


class DatabaseClock:
    """The database's own clock, read afresh at each call."""

    def read(self, connection: Connection) -> int:
        """Return whole milliseconds since the epoch, by the database."""
        return int(connection.scalar(_STATEMENTS[connection.dialect.name]) or 0)


class ManualClock:
    """A clock that stands until it is moved: for tests and models."""

    def __init__(self, now: int = 1_700_000_000_000) -> None:
        self.now = now

    def read(self, connection: Connection) -> int:  # noqa: ARG002 - the Protocol's
        """Return the time that was set."""
        return self.now

    def advance(self, seconds: float) -> None:
        """Move the clock by `seconds` (backwards when negative)."""
        self.now += round(seconds * 1000)
