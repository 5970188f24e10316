"""Prints the progress of a demo: one line every two seconds, on stderr."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from tasks.dlq.text import format_count

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from tasks.devstack.demo.snapshot import Snapshot

#: Seconds between two lines.
INTERVAL = 2.0


class ProgressPrinter:
    """Prints lines with the number of seconds since its creation."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._began = time.monotonic()
        self._next = self._began + INTERVAL

    @property
    def seconds(self) -> float:
        """Seconds since the creation."""
        return time.monotonic() - self._began

    def print_missing(self, names: Sequence[str]) -> None:
        """Print the names of the processes that are not ready."""
        self._print(f"starting {', '.join(names)}")

    def print_snapshot(self, snapshot: Snapshot) -> None:
        """Print the counts. The last snapshot is always printed."""
        progress, jobs = snapshot.progress, sum(snapshot.jobs.values())
        parts = [
            f"{progress.handled}/{format_count(snapshot.messages, 'message')}",
            format_count(progress.conflicts, "conflict"),
            format_count(progress.dead_letters, "dead letter"),
            f"{jobs - snapshot.unfinished}/{format_count(jobs, 'job')}",
            format_count(snapshot.statistics["calls"], "call"),
            f"{progress.stale} stale",
        ]
        self._print(", ".join(parts), at_once=snapshot.done)

    def _print(self, text: str, *, at_once: bool = False) -> None:
        now = time.monotonic()
        if at_once or now >= self._next:
            self._next = now + INTERVAL
            self._console.print(f"{now - self._began:4.0f} s  {text}")
