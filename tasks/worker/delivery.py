"""Delivery: what is due later waits in SQS, not in a worker.

Celery keeps a message with an eta in the worker's memory, unacknowledged, where SQS' visibility timeout hands it out again. So a
countdown becomes SQS' own DelaySeconds, and no eta stays in the message.
"""

from __future__ import annotations

import math
import os
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import structlog
from botocore.exceptions import BotoCoreError, ClientError
from celery import Task
from celery.exceptions import SoftTimeLimitExceeded
from kombu.exceptions import OperationalError

from tasks.dlq.calls.limits import LONGEST_DELAY
from tasks.dlq.errors import BrokerUnavailable, Retryable
from tasks.names import RECOVER
from tasks.runtime import Runtime
from tasks.settings import settings
from tasks.worker.stopping import stop

if TYPE_CHECKING:
    from celery import Celery

log = structlog.get_logger("redrive.delivery")

#: What a message that could not be sent raises: kombu translates what it takes for passing, and lets SQS' own refusals through.
UNSENT = (OperationalError, OSError, BotoCoreError, ClientError)

#: Seconds until a task that found the ledger or the broker out of reach looks again.
OUT_OF_REACH_DELAY = 15.0


class RedriveTask(Task):
    """The base of all tasks: native delays, and the process's one runtime."""

    @property
    def runtime(self) -> Runtime:
        """The runtime of this process: made after the fork, never shared over it."""
        return runtime_of(self.app)

    def apply_async(self, args: Any = None, kwargs: Any = None, **options: Any) -> Any:
        """Send the task; `countdown` (seconds) or `eta` (aware datetime) becomes SQS' DelaySeconds, at most 900."""
        countdown, eta = options.pop("countdown", None), options.pop("eta", None)
        if countdown is None and eta is not None:
            countdown = (eta - datetime.now(UTC)).total_seconds()
        if countdown is not None:
            options["delay_seconds"] = delay_seconds(countdown)
        return super().apply_async(args, kwargs, **options)

    def retry(self, args: Any = None, kwargs: Any = None, exc: Any = None, **options: Any) -> Any:
        """Send again when the ledger says so: autoretry itself knows neither Retry-After nor the route's policy."""
        if options.get("countdown") is None:
            options["countdown"] = exc.delay if isinstance(exc, Retryable) else OUT_OF_REACH_DELAY
        return super().retry(args, kwargs, exc=exc, **options)

    def on_failure(self, exc: BaseException, *args: Any, **kwargs: Any) -> None:
        """Make everything anew after the soft limit: what it broke into may hold a connection, or a lock in the ledger."""
        if isinstance(exc, SoftTimeLimitExceeded):
            self.runtime.close()
        super().on_failure(exc, *args, **kwargs)


def delay_seconds(countdown: float) -> int:
    """Return SQS' DelaySeconds for a wait: whole seconds, never too early, at most 900."""
    return min(max(math.ceil(countdown), 0), round(LONGEST_DELAY))


class CeleryWakeupSender:
    """Sends wake-ups as `redrive.recover` messages on the recovery queue."""

    def __init__(self, app: Celery) -> None:
        self._app = app

    def send(self, job_id: int, *, delay: float) -> None:
        """Send one wake-up for the job, to arrive after `delay` seconds (at most 900). Raises BrokerUnavailable."""
        try:
            self._app.send_task(RECOVER, (job_id,), delay_seconds=delay_seconds(delay))
        except UNSENT as error:
            raise BrokerUnavailable(f"the wake-up was not sent: {error}", hint="check broker.url") from error


def runtime_of(app: Celery) -> Runtime:
    """Return this process's runtime, which sends wake-ups by `app`."""
    return _runtime(os.getpid(), app)


@lru_cache(maxsize=1)
def _runtime(_pid: int, app: Celery) -> Runtime:
    """Make a runtime; one that a parent process made before the fork is not ours, and falls out of the cache."""
    return Runtime(settings(), CeleryWakeupSender(app), stopping=stop.asked)


def send_if_possible(app: Celery, task: str) -> None:
    """Send a task that a later sweep would send as well. If the broker does not answer, log it."""
    try:
        app.send_task(task)
    except UNSENT as error:
        log.warning("task_unsent", task=task, error=str(error))
