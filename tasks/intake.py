"""The Celery tasks of the intake: `redrive.submit`, for producers in other applications, and what becomes of all else."""

from __future__ import annotations

import base64
import uuid
from typing import TYPE_CHECKING, Any

from celery import shared_task
from celery.worker.request import Request

from tasks.adapters.celery_messages import submitted
from tasks.dlq.errors import OutOfReach
from tasks.dlq.ports import Record
from tasks.names import CELERY_SOURCE, KEEP, SUBMIT

if TYPE_CHECKING:
    from tasks.worker.delivery import RedriveTask


class Irrevocable(Request):
    """The request of a task whose message is a failure: revoking an id, which a producer chose, must not make it vanish."""

    def revoked(self) -> bool:
        """Return that it is not."""
        return False


#: Whatever goes wrong: the message stays in SQS, comes again with the same identity, and ends in the dead-letter queue, which is
#: swept. A retry of Celery's would be a new message, and the failure could count twice.
STAYS_IN_SQS = {
    "bind": True,
    "typing": False,
    "throws": (OutOfReach,),
    "acks_on_failure_or_timeout": False,
    "Request": "tasks.intake:Irrevocable",
}


@shared_task(name=SUBMIT, **STAYS_IN_SQS)
def submit(self: RedriveTask, args: list[Any], kwargs: dict[str, Any]) -> None:
    """Record a failure: `send_task("redrive.submit", kwargs={"route": …, "parameters": {…}, "origin": {…}})`.

    Whatever the producer's arguments are, they are kept: what names no route or has a wrong parameter becomes a rejected dead
    letter. The transport hands them over as two values, for Python would refuse some names (`self`) as a task's own.
    """
    runtime = self.runtime
    runtime.intake.take(CELERY_SOURCE, runtime.submissions, [submitted(_record(self), args, kwargs)])


@shared_task(name=KEEP, **STAYS_IN_SQS)
def keep(self: RedriveTask, message: str) -> None:
    """Keep a message (base64) that calls none of Redrive's tasks as a rejected dead letter (see tasks/worker/transport)."""
    runtime = self.runtime
    runtime.intake.take(CELERY_SOURCE, runtime.messages, [_record(self, base64.b64decode(message))])


def _record(task: RedriveTask, body: bytes = b"") -> Record:
    """Return a record whose identity is SQS' own message id: the task's id was chosen by a producer, perhaps twice."""
    message_id = task.request.get("sqs_message_id")
    return Record(identity=message_id or str(uuid.uuid4()), body=body, origin={"message_id": message_id} if message_id else {})
