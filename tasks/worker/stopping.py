"""Stopping: after SIGTERM the open call ends, and no other begins.

Celery's main process receives the signal, but calls run in the processes of its pool. They share one byte of memory. If the whole
process group receives the signal (systemd's default), a process of the pool ends its task first, too.
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

#: Seconds between the end of a task and the end of its process, in which the pool receives the task's result.
_REPORT_SECONDS = 0.1


@dataclass
class Stop:
    """Whether this worker is to stop. Created before the fork: the pool sees a request that the main process makes."""

    _requested: mmap.mmap = field(default_factory=lambda: mmap.mmap(-1, 1))
    _signalled: bool = False
    _previous_handler: Callable[[int, FrameType | None], object] | int | None = None
    _delays_sigterm: bool = False

    def request(self) -> None:
        """Let no further call begin, in this process and its forks."""
        self._requested[0] = 1

    def reset(self) -> None:
        """Forget an earlier request: a worker starts."""
        self._requested[0] = 0

    def is_requested(self) -> bool:
        """Whether to stop before the next call or batch."""
        return self._signalled or self._requested[0] == 1

    def delay_sigterm(self) -> None:
        """Let the task that begins now end before SIGTERM ends this process. Only the main thread receives signals."""
        if not self._signalled and threading.current_thread() is threading.main_thread():
            self._previous_handler = signal.signal(signal.SIGTERM, self._note_signal)
            self._delays_sigterm = True

    def restore_sigterm(self) -> None:
        """End the process soon if SIGTERM came during the task. From now on, SIGTERM ends it at once."""
        if self._delays_sigterm:
            self._delays_sigterm = False
            signal.signal(signal.SIGTERM, self._previous_handler)
            if self._signalled:
                signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(signal.SIGTERM))
                signal.setitimer(signal.ITIMER_REAL, _REPORT_SECONDS)

    def _note_signal(self, _signum: int, _frame: FrameType | None) -> None:
        self._signalled = True


#: The stop of this worker and its pool.
stop = Stop()
