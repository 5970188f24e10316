"""Moves the clock of the day within Python, for a process that cannot bear libfaketime.

librdkafka waits by the clock of the day; libfaketime 0.9.10 moves that clock and not the wait, so that a wait of a moment takes
the hours by which the clock is ahead. So `redrive intake` is told the time here: by `time.time`, and by a ledger in SQLite.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from tasks.dlq.ledger.clock import DatabaseClock


def move(file: str) -> None:
    """Have the process see the clock of the day as many seconds ahead as the file says, at each look."""
    ahead = Path(file)
    now, query = time.time, DatabaseClock.query

    def moved_query(self: Any, connection: Any) -> int:
        moved = float(ahead.read_text()) if connection.dialect.name == "sqlite" else 0.0
        return int(query(self, connection) + round(moved * 1000))

    time.time = lambda: now() + float(ahead.read_text())
    DatabaseClock.query = moved_query  # type: ignore[method-assign]
