"""Stopping: SIGTERM lets the call in hand end, and no other begin.

Celery's main process gets the signal, but the slice runs in a process of its pool, which hears nothing of it: they share a byte.
Where a whole group gets the signal (systemd's default, a supervisor's), the pool's process ends its task first, too.
"""

from __future__ import annotations

import mmap
import signal
import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

#: Seconds between the end of a task and the end of its process: the pool hears how the task ended.
_REPORT = 0.1


@dataclass
class Stop:
    """Whether this worker is to stop. Made before the fork: `ask` in the main process is seen by its pool."""

    _asked: mmap.mmap = field(default_factory=lambda: mmap.mmap(-1, 1))
    _told: bool = False
    _before: Callable[[int, FrameType | None], object] | int | None = None
    _shielded: bool = False

    def ask(self) -> None:
        """Let no call begin any more in this process, and in those that it has forked."""
        self._asked[0] = 1

    def withdraw(self) -> None:
        """Begin anew: a worker starts."""
        self._asked[0] = 0

    def asked(self) -> bool:
        """Tell whether to stop: said between two calls, and between two batches."""
        return self._told or self._asked[0] == 1

    def shield(self) -> None:
        """Let the task that begins here end before SIGTERM ends this process. Not in a thread: there no signal arrives."""
        if not self._told and threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGTERM, self._tell)
            self._shielded = True

    def unshield(self) -> None:
        """End the process soon if SIGTERM came meanwhile; from now on it ends it at once."""
        if self._shielded:
            self._shielded = False
            signal.signal(signal.SIGTERM, self._before)
            if self._told:
                signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(signal.SIGTERM))
                signal.setitimer(signal.ITIMER_REAL, _REPORT)

    def _tell(self, _signum: int, _frame: FrameType | None) -> None:
        self._told = True


#: This worker's; its pool's processes have the same.
stop = Stop()
