"""Counts the calls of the sample API: all of them, and how many are open at once."""

from __future__ import annotations

from collections import Counter
from typing import Any


class CallCounter:
    """The counts. Only the thread of the event loop uses them."""

    def __init__(self) -> None:
        self._total = 0
        self._most = 0
        self._most_per_key = 0
        self._open: Counter[str] = Counter()
        self._statuses: Counter[str] = Counter()

    def begin(self, path: str) -> None:
        """Count a call that has begun."""
        self._total += 1
        self._open[path] += 1
        self._most = max(self._most, self._open.total())
        self._most_per_key = max(self._most_per_key, self._open[path])

    def end(self, path: str, status: int) -> None:
        """Count a call that has ended."""
        self._open[path] -= 1
        self._statuses[str(status)] += 1

    def make_statistics(self) -> dict[str, Any]:
        """Return the counts, ready for JSON."""
        return {
            "calls": self._total,
            "in_flight": self._open.total(),
            "max_in_flight": self._most,
            "max_in_flight_per_key": self._most_per_key,
            "statuses": dict(self._statuses),
        }
