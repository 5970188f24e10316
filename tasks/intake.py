"""The Celery tasks of intake: `redrive.submit` for producers in other applications, and `redrive.keep` for other messages."""

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
    """A request that cannot be revoked: a producer chose the task's id, and revoking that id must not lose a failure."""

    def revoked(self) -> bool:
        return False


#: After an error the message stays in SQS and is delivered again with the same identity. In the end it reaches the dead-letter
#: queue, which a sweep drains. A retry by Celery would be a new message, and the failure could count twice.
STAY_IN_SQS = {
    "bind": True,
    "typing": False,
    "throws": (OutOfReach,),
    "acks_on_failure_or_timeout": False,
    "Request": "tasks.intake:Irrevocable",
}


@shared_task(name=SUBMIT, **STAY_IN_SQS)
def submit(self: RedriveTask, args: list[Any], kwargs: dict[str, Any]) -> None:
    """Record a failure: `send_task("redrive.submit", kwargs={"route": …, "parameters": {…}, "origin": {…}})`.

    All arguments are recorded: without a known route, or with a wrong parameter, they become a rejected dead letter. The
    transport passes them as two values, because Python would not accept some names (`self`) as keyword arguments.
    """
    runtime = self.runtime
    runtime.intake.take(CELERY_SOURCE, runtime.submissions, [submitted(_record(self), args, kwargs)])


@shared_task(name=KEEP, **STAY_IN_SQS)
def keep(self: RedriveTask, message: str) -> None:
    """Keep a message (base64) that calls none of Redrive's tasks as a rejected dead letter (see tasks/worker/transport)."""
    runtime = self.runtime
    runtime.intake.take(CELERY_SOURCE, runtime.messages, [_record(self, base64.b64decode(message))])


def _record(task: RedriveTask, body: bytes = b"") -> Record:
    """Return a record whose identity is the message id of SQS. A producer chose the task's id, and may have used it twice."""
    message_id = task.request.get("sqs_message_id")
    return Record(identity=message_id or str(uuid.uuid4()), body=body, origin={"message_id": message_id} if message_id else {})
