"""The ledger's clock: the database's. All workers compare due times and leases by this one clock.

It is a clock of the day, and such clocks are stepped: by a person, by NTP at a start, by a fail-over to a server that is ahead.
A step forward ends leases whose calls are still open. So each process compares the ledger's clock with its own monotonic clock,
and the rescue trusts only the time since the last step (`tasks.dlq.ledger.rescue`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

import structlog
from sqlalchemy import literal_column, select

from tasks.dlq.clock import boottime

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sqlalchemy import Connection, Select

log = structlog.get_logger("redrive.ledger")

#: Whole milliseconds since the epoch, at this statement. PostgreSQL's now() is the start of the transaction, which may be seconds
#: ago after a wait for a lock: hence clock_timestamp(). 2440587.5 is the epoch as a Julian day.
_STATEMENTS: Mapping[str, Select[Any]] = {
    "sqlite": select(literal_column("CAST(round((julianday('now') - 2440587.5) * 86400000.0) AS INTEGER)")),
    "postgresql": select(literal_column("CAST(floor(extract(epoch FROM clock_timestamp()) * 1000) AS BIGINT)")),
}
#: Seconds that the clock may get ahead between two reads. The margin of a lease covers it; drift and slewing need less.
_TOLERANCE = 1.0
#: Seconds between two reads, after which a step back and forth may have gone unseen. The sweeps read far more often.
_LONGEST_GAP = 60.0


class Clock(Protocol):
    """The time of the ledger."""

    def read(self, connection: Connection) -> int:
        """Return whole milliseconds since the epoch."""
        ...

    def steady_for(self) -> float:
        """Return the seconds, up to the last read, in which this process has seen no step forward."""
        ...


class StepDetector:
    """Compares a clock with a monotonic one. A step back does not count, because it ends no lease.

    Args:
        elapsed: Returns the seconds of the monotonic clock.
        longest_gap: Seconds between two reads, after which nothing is known: the clock may have been set back, a lease taken by
            that time, and the clock set forward again.
    """

    def __init__(self, elapsed: Callable[[], float], longest_gap: float) -> None:
        self._elapsed = elapsed
        self._longest_gap = longest_gap
        self._steady_since = elapsed()
        self._last: tuple[int, float] | None = None

    def note(self, now: int) -> None:
        """Take a time in milliseconds that was read just now."""
        elapsed = self._elapsed()
        last_now, last_elapsed = self._last or (now, elapsed)
        gap = elapsed - last_elapsed
        ahead = (now - last_now) / 1000 - gap
        if self._last is None or ahead > _TOLERANCE or gap > self._longest_gap:
            self._steady_since = elapsed
        if ahead > _TOLERANCE:
            log.warning("clock_stepped", seconds=round(ahead, 1), hint="slew the database's clock instead of stepping it")
        self._last = (now, elapsed)

    def steady_for(self) -> float:
        """Return the seconds without a step, up to the last read."""
        return self._last[1] - self._steady_since if self._last else 0.0


class DatabaseClock:
    """The database's own clock, read again at each call."""

    def __init__(self, *, elapsed: Callable[[], float] = boottime) -> None:
        self._detector = StepDetector(elapsed, _LONGEST_GAP)
        self.steady_for = self._detector.steady_for

    def read(self, connection: Connection) -> int:
        """Return whole milliseconds since the epoch."""
        now = self.query(connection)
        self._detector.note(now)
        return now

    def query(self, connection: Connection) -> int:
        """Ask the database."""
        return int(connection.scalar(_STATEMENTS[connection.dialect.name]) or 0)
