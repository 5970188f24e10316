"""The liveness file and the heartbeat of each kind of process.

A worker consists of a main process and the processes of its pool. The main process keeps a liveness file; each process of the
pool, where tasks run, has a heartbeat. Beat and `redrive intake` are one process each, with both.
"""

from __future__ import annotations

import os
from functools import partial
from importlib.metadata import version
from socket import gethostname
from typing import TYPE_CHECKING, Any

from celery import bootsteps

from tasks.adapters.liveness import LivenessFile
from tasks.dlq.clock import boottime
from tasks.dlq.health.heartbeat import Heartbeat
from tasks.dlq.ledger import Ledger
from tasks.dlq.process import LIVENESS_INTERVAL, STALE_AFTER, Process, Role
from tasks.settings import settings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from celery.worker.consumer import Consumer

    from tasks.settings import Settings


class LoopHealth:
    """The liveness file and the heartbeat of a process with one main loop, which calls `note_turn` every few seconds."""

    def __init__(self, settings: Settings, role: Role, serves: Sequence[str] = ()) -> None:
        self._file = LivenessFile(settings.state_path, role)
        self._last_turn = boottime()
        self._heartbeat = _heartbeat(settings, role, os.getpid(), serves, self._is_working)

    def start(self) -> None:
        """Create the file and start the heartbeat."""
        self._file.touch()
        self._heartbeat.start()

    def note_turn(self) -> None:
        """Note that the loop goes on."""
        self._last_turn = boottime()
        self._file.touch()

    def stop(self) -> None:
        """Remove the row and the file. May be called again."""
        self._heartbeat.stop()
        self._file.remove()

    def _is_working(self) -> bool:
        return boottime() - self._last_turn <= STALE_AFTER


class PoolHealth:
    """The heartbeat of a process in a worker's pool.

    It stops while a task takes longer than the hard limit, and while the main process stands still.
    """

    def __init__(self, settings: Settings, main_pid: int, serves: Sequence[str]) -> None:
        self._hard_limit = settings.limits.hard
        self._main_file = LivenessFile(settings.state_path, Role.WORKER, main_pid)
        self._task_began: float | None = None
        self.heartbeat = _heartbeat(settings, Role.WORKER, main_pid, serves, self._is_working)

    def begin_task(self) -> None:
        """Note that a task begins."""
        self._task_began = boottime()

    def end_task(self) -> None:
        """Note that the task ended."""
        self._task_began = None

    def _is_working(self) -> bool:
        began, main_age = self._task_began, self._main_file.age()
        in_time = began is None or boottime() - began <= self._hard_limit
        return in_time and (main_age is None or abs(main_age) <= STALE_AFTER)


class LivenessStep(bootsteps.StartStopStep):
    """A bootstep of Celery's consumer: the worker's event loop touches the liveness file until the main process ends."""

    def __init__(self, consumer: Consumer, **options: Any) -> None:
        self._file = LivenessFile(settings().state_path, Role.WORKER)
        self._timer: Any = None
        super().__init__(consumer, **options)

    def start(self, consumer: Consumer) -> None:
        """Start the timer. Celery calls this again after the broker was lost, because it drops the timers of a connection."""
        self.stop(consumer)
        self._file.touch()
        self._timer = consumer.timer.call_repeatedly(LIVENESS_INTERVAL, self._file.touch)

    def stop(self, _consumer: Consumer) -> None:
        """Cancel the timer."""
        if self._timer is not None:
            self._timer.cancel()

    def shutdown(self, consumer: Consumer) -> None:
        """Cancel the timer and remove the file."""
        self.stop(consumer)
        self._file.remove()


def _heartbeat(settings: Settings, role: Role, main_pid: int, serves: Sequence[str], is_working: Callable[[], bool]) -> Heartbeat:
    process = Process(
        role=role,
        host=gethostname(),
        pid=os.getpid(),
        main_pid=main_pid,
        version=version("redrive"),
        serves=tuple(serves),
    )
    return Heartbeat(process, partial(Ledger, settings.ledger.url), is_working)
