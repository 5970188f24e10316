"""Signs of life of Celery's processes: a pulse of each main loop, and a heartbeat of what does the work.

A worker has two processes that matter: its main process, whose event loop sets the pulse, and the child in its pool, whose
heartbeat says in the ledger that tasks can be done. Beat is both in one; so is `redrive intake`, which calls `Vitals` itself.
"""

from __future__ import annotations

import atexit
import os
from functools import partial
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from celery import bootsteps, current_app
from celery.signals import task_postrun, task_prerun, worker_init, worker_process_init, worker_process_shutdown

from tasks.adapters import pulse
from tasks.adapters.pulse import Pulse
from tasks.dlq.clock import boottime
from tasks.dlq.health.heartbeat import Heart
from tasks.dlq.ledger import Ledger
from tasks.dlq.process import FRESH, PULSE, Process, Role
from tasks.settings import settings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from celery.worker.consumer import Consumer

    from tasks.settings import Settings


class Vitals:
    """The pulse and the heartbeat of a process that has one main loop; call `turn` in it at least every few seconds."""

    def __init__(self, settings: Settings, role: Role, serves: Sequence[str] = ()) -> None:
        self._pulse = Pulse(settings.state_path, role)
        self._turned = boottime()
        self._heart = heart(settings, role, os.getpid(), serves, alive=lambda: boottime() - self._turned <= FRESH)

    def start(self) -> None:
        """Begin to beat."""
        self._pulse.beat()
        self._heart.start()

    def turn(self) -> None:
        """Note that the loop goes on."""
        self._turned = boottime()
        self._pulse.beat()

    def stop(self) -> None:
        """Take leave of the ledger and of this machine."""
        self._heart.stop()
        self._pulse.end()


def heart(settings: Settings, role: Role, main_pid: int, serves: Sequence[str], *, alive: Callable[[], bool]) -> Heart:
    """Return the heart of this process, which a supervisor knows as `main_pid`."""
    process = Process(
        role=role, host=pulse.here(), pid=os.getpid(), main_pid=main_pid, version=version("redrive"), serves=tuple(serves)
    )
    return Heart(process, partial(Ledger, settings.ledger.url), alive)


class MainPulse(bootsteps.StartStopStep):
    """The consumer's bootstep that has the worker's event loop set the pulse, as long as the main process lives."""

    def __init__(self, consumer: Consumer, **options: Any) -> None:
        self._pulse = Pulse(settings().state_path, Role.WORKER)
        self._timer: Any = None
        super().__init__(consumer, **options)

    def start(self, consumer: Consumer) -> None:
        """Begin. A worker that lost its broker comes here again: Celery throws away the timers of the old connection."""
        self.stop(consumer)
        self._pulse.beat()
        self._timer = consumer.timer.call_repeatedly(PULSE, self._pulse.beat)

    def stop(self, _consumer: Consumer) -> None:
        """Let go of the timer."""
        if self._timer is not None:
            self._timer.cancel()

    def shutdown(self, consumer: Consumer) -> None:
        """Take the file along."""
        self.stop(consumer)
        self._pulse.end()


class PoolHeart:
    """The heartbeat of a process in a worker's pool: while its task is within the hard limit, and the main loop turns."""

    def __init__(self, settings: Settings, main_pid: int, serves: Sequence[str]) -> None:
        self._settings = settings
        self._main = main_pid
        self._task_since: float | None = None
        self._heart = heart(settings, Role.WORKER, main_pid, serves, alive=self.is_alive)

    def start(self) -> None:
        """Begin to beat."""
        self._heart.start()

    def begin_task(self) -> None:
        """A task is in hand from now on."""
        self._task_since = boottime()

    def end_task(self) -> None:
        """No task is in hand."""
        self._task_since = None

    def is_alive(self) -> bool:
        """Tell whether the task in hand may still be, and the main process's loop turns."""
        since, main = self._task_since, pulse.age(self._settings.state_path, Role.WORKER, self._main)
        in_time = since is None or boottime() - since <= self._settings.limits.hard
        return in_time and (main is None or abs(main) <= FRESH)

    def stop(self) -> None:
        """Take leave of the ledger."""
        self._heart.stop()


#: The worker's main process, as its children remember it; and what beats in this process.
_mains: list[int] = []
_of_pool: list[PoolHeart] = []
_of_beat: list[Vitals] = []


@worker_init.connect
def remember_main(**_: Any) -> None:
    """Know the main process in those that are forked from it."""
    _mains[:] = [os.getpid()]


@worker_process_init.connect
def begin(**_: Any) -> None:
    """Beat in the pool's process, after the fork; a worker that a test runs in its own process has no main one, and no heart."""
    for main in _mains:
        beating = PoolHeart(settings(), main, sorted(current_app.amqp.queues.consume_from))
        _of_pool[:] = [beating]
        beating.start()


@task_prerun.connect
def begin_task(**_: Any) -> None:
    """Know since when a task is in hand."""
    for each in _of_pool:
        each.begin_task()


@task_postrun.connect
def end_task(**_: Any) -> None:
    """Know that none is."""
    for each in _of_pool:
        each.end_task()


@worker_process_shutdown.connect
def end(**_: Any) -> None:
    """End with the process."""
    while _of_pool:
        _of_pool.pop().stop()


def beat_begins() -> None:
    """Beat for beat, which tells nobody when it ends."""
    vitals = Vitals(settings(), Role.BEAT)
    _of_beat[:] = [vitals]
    vitals.start()
    atexit.register(vitals.stop)


def beat_ticked() -> None:
    """Note that beat's loop goes on."""
    for each in _of_beat:
        each.turn()
