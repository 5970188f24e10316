"""The start and the end of Celery's processes: logs, Sentry, queues, ledger, health. All of Celery's signals arrive here."""

from __future__ import annotations

import logging
import os
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import structlog
from celery import current_app
from celery.beat import PersistentScheduler
from celery.signals import (
    beat_init,
    celeryd_init,
    setup_logging,
    task_postrun,
    task_prerun,
    worker_init,
    worker_process_init,
    worker_process_shutdown,
    worker_shutting_down,
)

from tasks.adapters import logs
from tasks.dlq.errors import RedriveError
from tasks.dlq.process import Role
from tasks.runtime import Runtime
from tasks.settings import directory, settings
from tasks.worker.delivery import make_runtime, runtime_of
from tasks.worker.health import LoopHealth, PoolHealth
from tasks.worker.startup import exit_on_error
from tasks.worker.stopping import stop
from tasks.worker.transport import queue_missing

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from celery.beat import Service

log = structlog.get_logger("redrive.lifecycle")


@dataclass
class _WorkerProcess:
    """What this process, if it belongs to a worker, knows about itself."""

    #: The worker's main process. The pool's processes inherit it when they are forked.
    main_pid: int | None = None
    #: Set in a process of the pool.
    health: PoolHealth | None = None


_worker = _WorkerProcess()


# --- logging -------------------------------------------------------------------------------------------------------------


@setup_logging.connect
def set_up_logging(loglevel: int | None = None, **_: Any) -> None:
    """Log in one way in all processes. `celery --loglevel` sets the level, also when beat sets up logging again."""
    level = logging.getLevelName(loglevel or logging.getLogger().level)
    logs.configure(level, secrets=settings().secrets())


@celeryd_init.connect
def set_up_logging_early(options: Mapping[str, Any], **_: Any) -> None:
    """Set up logging before Celery does, so that its early warnings are log lines: a worker that runs as root."""
    set_up_logging(options.get("loglevel"))


# --- beat ----------------------------------------------------------------------------------------------------------------


class SweepScheduler(PersistentScheduler):
    """Beat's scheduler. It creates the state directory for its file, survives a clock that is set back, and has a heartbeat."""

    _health: LoopHealth | None = None

    def setup_schedule(self) -> None:
        """Open the schedule's file."""
        with exit_on_error():
            directory.make(settings().state_path)
        super().setup_schedule()

    def start_health(self) -> None:
        """Start the heartbeat of this process."""
        self._health = LoopHealth(settings(), Role.BEAT)
        self._health.start()

    def tick(self, *args: Any, **kwargs: Any) -> float:
        """Send what is due. An entry that ran in the future, because the clock was set back, counts as run now.

        Celery would wait for the whole step: an entry is due at `last_run_at` plus its interval.
        """
        if self._health:
            self._health.note_turn()
        for entry in self.schedule.values():
            if entry.last_run_at > (now := entry.default_now()):
                entry.last_run_at = now
                self._heap = None  # Celery builds it again from the entries
        return float(super().tick(*args, **kwargs))

    def close(self) -> None:
        """Close the schedule's file: beat ends. Celery may call this twice."""
        super().close()
        if self._health:
            self._health.stop()


@beat_init.connect
def start_beat(sender: Service, **_: Any) -> None:
    """Create what is missing before the first message. If that fails, exit with a message for people."""
    _start(Runtime.ensure_ledger, Runtime.ensure_queues)
    sender.scheduler.start_health()


# --- a worker's main process ---------------------------------------------------------------------------------------------


@worker_init.connect
def start_worker(**_: Any) -> None:
    """Create what is missing, and read every secret: a worker without them would pause every route.

    Sentry must wrap the tasks before the pool is forked, or it does not see their faults.
    """
    stop.reset()
    _worker.main_pid = os.getpid()
    _start(Runtime.ensure_ledger, Runtime.ensure_queues, Runtime.check, Runtime.start_sentry)


@worker_shutting_down.connect
def stop_calling(**_: Any) -> None:
    """Let the open call end and begin no other. Jobs that are due stay due."""
    stop.request()


@queue_missing.connect
def restore_queues(**_: Any) -> None:
    """Create the queues again after SQS lost them. The jobs are in the ledger, and the sweep `promote` sends new wake-ups."""
    try:
        runtime_of(current_app).ensure_queues()
    except RedriveError as error:
        log.warning("queues_missing", error=error.message, hint=error.hint)


def _start(*steps: Callable[[Runtime], None]) -> None:
    set_up_logging()
    with closing(make_runtime(current_app)) as runtime, exit_on_error():  # a fork must not inherit open connections
        for step in steps:
            step(runtime)


# --- a process of the pool -----------------------------------------------------------------------------------------------


@worker_process_init.connect
def start_pool_process(**_: Any) -> None:
    """Start the heartbeat and Sentry in the new process, and let the next sweep send wake-ups at once."""
    if _worker.main_pid:  # not in a worker that a test runs inside its own process
        _worker.health = PoolHealth(settings(), _worker.main_pid, sorted(current_app.amqp.queues.consume_from))
        _worker.health.heartbeat.start()
    runtime = runtime_of(current_app)
    runtime.start_sentry()
    runtime.maintenance.note_worker_start()


@task_prerun.connect
def begin_task(**_: Any) -> None:
    """Note the time, and let the task end before SIGTERM ends the process."""
    if _worker.health:
        _worker.health.begin_task()
    stop.delay_sigterm()


@task_postrun.connect
def end_task(**_: Any) -> None:
    """End the process if SIGTERM came during the task."""
    if _worker.health:
        _worker.health.end_task()
    stop.restore_sigterm()


@worker_process_shutdown.connect
def end_pool_process(**_: Any) -> None:
    """Stop the heartbeat and close everything that is open."""
    if _worker.health:
        _worker.health.heartbeat.stop()
    runtime_of(current_app).close()
