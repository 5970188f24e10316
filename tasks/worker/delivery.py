"""Delivery: a delayed task waits in SQS, not in a worker.

Celery holds a message with an eta in the worker's memory, unacknowledged, until SQS delivers it again after the visibility
timeout. So a countdown becomes the DelaySeconds of SQS, and the message has no eta.
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

#: Errors of a message that could not be sent: kombu translates temporary errors, and lets refusals of SQS through.
UNSENT = (OperationalError, OSError, BotoCoreError, ClientError)

#: Seconds until a task is tried again after the ledger or the broker did not answer.
OUT_OF_REACH_DELAY = 15.0


class RedriveTask(Task):
    """The base class of all tasks: delays by SQS, and the process's runtime."""

    @property
    def runtime(self) -> Runtime:
        """The runtime of this process. It is created after the fork and never shared."""
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
        """Send the task again when the ledger says so. Celery's autoretry knows neither Retry-After nor the route's policy."""
        if options.get("countdown") is None:
            options["countdown"] = exc.delay if isinstance(exc, Retryable) else OUT_OF_REACH_DELAY
        return super().retry(args, kwargs, exc=exc, **options)

    def on_failure(self, exc: BaseException, *args: Any, **kwargs: Any) -> None:
        """Close all resources after a soft time limit: the interrupted code may hold a connection or a lock."""
        if isinstance(exc, SoftTimeLimitExceeded):
            close_runtime(self.app)
        super().on_failure(exc, *args, **kwargs)


def delay_seconds(countdown: float) -> int:
    """Return the DelaySeconds for a countdown: whole seconds, rounded up, at most 900."""
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


def make_runtime(app: Celery) -> Runtime:
    """Return a runtime of its own, which the caller closes."""
    return Runtime(settings(), CeleryWakeupSender(app), stopping=stop.is_requested)


@lru_cache(maxsize=1)
def _runtime(_pid: int, app: Celery) -> Runtime:
    """Create a runtime. The cache holds one: a runtime that the parent process made before the fork is dropped."""
    return make_runtime(app)


def close_runtime(app: Celery) -> None:
    """Close this process's runtime. The next use makes a new one."""
    runtime_of(app).close()
    _runtime.cache_clear()


def send_if_possible(app: Celery, task: str) -> None:
    """Send a task that a later sweep would send as well. If the broker does not answer, log it."""
    try:
        app.send_task(task)
    except UNSENT as error:
        log.warning("task_unsent", task=task, error=str(error))
