"""What happens when a process of Celery starts and stops: logs, Sentry, the queues, the ledger."""

from __future__ import annotations

import logging
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
from tasks.runtime import Runtime
from tasks.settings import directory, settings
from tasks.worker.delivery import runtime_of
from tasks.worker.health import beat_begins, beat_ticked
from tasks.worker.startup import exit_on_error
from tasks.worker.stopping import stop
from tasks.worker.transport import queue_missing

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

log = structlog.get_logger("redrive.lifecycle")


class SweepScheduler(PersistentScheduler):
    """Beat's own scheduler, which makes the state directory for its file, and outlives a clock that is put back."""

    def setup_schedule(self) -> None:
        """Open the schedule's file."""
        with exit_on_error():
            directory.make(settings().state_path)
        super().setup_schedule()

    def tick(self, *args: Any, **kwargs: Any) -> float:
        """Send what is due. A sweep that ran in the future, for the clock was put back since, counts as run now.

        Celery would wait for the whole step: `last_run_at` plus the interval is when it is due.
        """
        beat_ticked()
        for entry in self.schedule.values():
            if entry.last_run_at > (now := entry.default_now()):
                entry.last_run_at = now
                self._heap = None  # made anew of the entries
        return float(super().tick(*args, **kwargs))


@setup_logging.connect
def set_up_logging(loglevel: int | None = None, **_: Any) -> None:
    """Log in one way in all processes; `celery --loglevel` decides how much, also when beat sets up again."""
    level = logging.getLevelName(loglevel or logging.getLogger().level)
    logs.configure(level, secrets=settings().secrets())


@celeryd_init.connect
def set_up_logging_early(options: Mapping[str, Any], **_: Any) -> None:
    """Have a log line of what is warned of before Celery sets up logging: that the worker runs as root."""
    set_up_logging(options.get("loglevel"))


@beat_init.connect
def prepare(**_: Any) -> None:
    """Make what is missing before the first message; refuse to start, with a message for people, when that cannot be."""
    _start(Runtime.ensure_ledger, Runtime.ensure_queues)
    beat_begins()


@worker_init.connect
def prepare_to_call(**_: Any) -> None:
    """Prepare, and look for every secret that a worker needs: one that starts without them would pause every route.

    Sentry hears of a task's fault only if it has wrapped the tasks before the pool's processes take them over.
    """
    stop.withdraw()
    _start(Runtime.ensure_ledger, Runtime.ensure_queues, Runtime.check, Runtime.start_sentry)


@queue_missing.connect
def restore_queues(**_: Any) -> None:
    """Make the queues again: SQS came back empty. The jobs are in the ledger, and promote rings for them."""
    try:
        runtime_of(current_app).ensure_queues()
    except RedriveError as error:
        log.warning("the queues are not there yet", error=error.message, hint=error.hint)


def _start(*steps: Callable[[Runtime], None]) -> None:
    set_up_logging()
    runtime = runtime_of(current_app)
    try:
        with exit_on_error():
            for step in steps:
                step(runtime)
    finally:
        runtime.close()  # nothing that is open may be forked


@worker_process_init.connect
def begin(**_: Any) -> None:
    """Start Sentry again after the fork, and let a sweep ring at once: a worker is here."""
    runtime = runtime_of(current_app)
    runtime.start_sentry()
    runtime.maintenance.wake_up()


@worker_shutting_down.connect
def stop_calling(**_: Any) -> None:
    """Let the call in hand be the last: what else is due stays due."""
    stop.ask()


@task_prerun.connect
def begin_task(**_: Any) -> None:
    """Let a task end before SIGTERM ends its process."""
    stop.shield()


@task_postrun.connect
def end_task(**_: Any) -> None:
    """End the process if SIGTERM came during the task."""
    stop.unshield()


@worker_process_shutdown.connect
def end(**_: Any) -> None:
    """Let go of what is open."""
    runtime_of(current_app).close()
