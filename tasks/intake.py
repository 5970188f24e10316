"""The Celery task of the intake, for producers in other applications."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from celery import shared_task

from tasks.dlq.errors import OutOfReach
from tasks.dlq.ports import Record
from tasks.dlq.reading import submission
from tasks.runtime import CELERY_SOURCE

if TYPE_CHECKING:
    from tasks.delivery import RedriveTask


@shared_task(
    name="redrive.submit",
    bind=True,
    typing=False,
    autoretry_for=(OutOfReach,),
    max_retries=None,
    # Whatever else goes wrong: the message stays in SQS, comes again, and ends in the dead-letter queue, which is swept.
    acks_on_failure_or_timeout=False,
)
def submit(self: RedriveTask, *args: Any, **kwargs: Any) -> None:
    """Record a failure: `send_task("redrive.submit", kwargs={"route": …, "parameters": {…}, "origin": {…}})`.

    Whatever the arguments are, they are kept: what names no route or has a wrong parameter becomes a rejected dead letter.
    """
    fields = dict(zip(("route", "parameters", "origin"), args, strict=False)) | kwargs
    origin = fields.get("origin")
    record = Record(
        identity=self.request.id,
        body=submission(fields.get("route"), fields.get("parameters")),
        origin=origin if isinstance(origin, dict) else {},
    )
    self.runtime.intake.take(CELERY_SOURCE, self.runtime.submissions, [record])
