"""The ledger's clock. Due times and leases of all workers are compared by one clock: the database's.

It is a clock of the day, and such clocks are stepped: by a person, by NTP at a start, by a fail-over to a server that is ahead.
A step forward ends leases whose calls are still open. So each process watches, by a clock that nobody can set, how long the
ledger's has gone on steadily; the rescue trusts it no further (`tasks.dlq.ledger.rescue`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import structlog
from sqlalchemy import literal_column, select

from tasks.dlq.clock import boottime

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection, Select

log = structlog.get_logger("redrive.ledger")

#: Expressions for "whole milliseconds since the epoch, at this statement". PostgreSQL's now() is the transaction's start, which
#: may be seconds back once a lock was waited for: hence clock_timestamp(). 2440587.5 is the epoch as a Julian day.
_EXPRESSIONS = {
    "sqlite": "CAST(round((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER)",
    "postgresql": "CAST(floor(extract(epoch FROM clock_timestamp()) * 1000) AS BIGINT)",
}
_STATEMENTS: dict[str, Select[Any]] = {name: select(literal_column(expression)) for name, expression in _EXPRESSIONS.items()}


#: Seconds that the ledger's clock may get ahead between two reads. A lease's margin bears it; drift and slewing take less.
_TOLERANCE = 1.0
#: Seconds between two reads, of which no more is known: the clock may have gone back and forth. The sweeps read far more often.
_LONGEST_GAP = 60.0


class Clock(Protocol):
    """Tells the time of the ledger."""

    def read(self, connection: Connection) -> int:
        """Return whole milliseconds since the epoch."""
        ...

    def steady_for(self) -> float:
        """Return the seconds for which this process has seen the clock go on without a step forward, up to its last read."""
        ...


class _Watch:
    """Compares the times that a clock tells with those of one that nobody sets. A step back ends no lease: it does not count.

    What came between two reads is not seen: a step back, a lease by that time, a step forward. Hence `longest_gap`, in seconds.
    """

    def __init__(self, elapsed: Callable[[], float], longest_gap: float) -> None:
        self._elapsed = elapsed
        self._longest_gap = longest_gap
        self._since = elapsed()
        self._last: tuple[int, float] | None = None

    def note(self, now: int) -> None:
        """Take a time in milliseconds that the clock has just told."""
        here = self._elapsed()
        told, then = self._last or (now, here)
        ahead = (now - told) / 1000 - (here - then)
        if self._last is None or ahead > _TOLERANCE or here - then > self._longest_gap:
            self._since = here
        if ahead > _TOLERANCE:
            log.warning("the ledger's clock went forward by a step; slew the database's clock", seconds=round(ahead, 1))
        self._last = (now, here)

    def seconds(self) -> float:
        """Return for how long there was no step, up to the last time taken."""
        return self._last[1] - self._since if self._last else 0.0


class DatabaseClock:
    """The database's own clock, read afresh at each call."""

    def __init__(self, *, elapsed: Callable[[], float] = boottime) -> None:
        self._watch = _Watch(elapsed, _LONGEST_GAP)

    def read(self, connection: Connection) -> int:
        """Return whole milliseconds since the epoch, by the database."""
        now = self.seen(connection)
        self._watch.note(now)
        return now

    def seen(self, connection: Connection) -> int:
        """Return what the database says now."""
        return int(connection.scalar(_STATEMENTS[connection.dialect.name]) or 0)

    def steady_for(self) -> float:
        """Return the seconds without a step forward."""
        return self._watch.seconds()


class ManualClock:
    """A clock that stands until it is moved: for tests and models."""

    def __init__(self, now: int = 1_700_000_000_000) -> None:
        self.now = now
        self._elapsed = 0.0
        self._watch = _Watch(lambda: self._elapsed, float("inf"))  # it is moved in long strides

    def read(self, connection: Connection) -> int:  # noqa: ARG002 - the Protocol's
        """Return the time that was set."""
        self._watch.note(self.now)
        return self.now

    def steady_for(self) -> float:
        """Return the seconds that passed without a step forward."""
        return self._watch.seconds()

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass (backwards when negative: then the clock alone moves)."""
        self._elapsed += max(seconds, 0.0)
        self.step(seconds)

    def step(self, seconds: float) -> None:
        """Set the clock ahead by `seconds`, while no time passes."""
        self.now += round(seconds * 1000)
