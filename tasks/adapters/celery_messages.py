"""Celery's messages on SQS, as strictly read as any other stranger's bytes.

The envelope is kombu's (https://docs.celeryq.dev/en/stable/internals/protocol.html, version 2): base64 of, or plain, JSON with
`headers` (`task`, `id`) and a `body` that is JSON, or base64 of JSON: `[args, kwargs, embed]`. What it asks of Celery beyond that
(eta, expires, limits, callbacks, compression) is not Redrive's.
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import structlog

from tasks.dlq.errors import UnreadableBody
from tasks.dlq.json_body import read_json
from tasks.dlq.reading.reader import MAX_SUBMISSION, Reader, encode_submission, reject
from tasks.names import RECOVER, SUBMIT

if TYPE_CHECKING:
    from collections.abc import Container, Sequence

    from tasks.dlq.dead_letter import DeadLetter
    from tasks.dlq.ports import Record, Source

log = structlog.get_logger("redrive.sqs")

_MAX_ID_OF_A_JOB = 2**63 - 1
#: Base64 twice (the envelope, and the body in it) makes 16 bytes of 9.
_MAX_MESSAGE = MAX_SUBMISSION * 2
#: Characters of a task's id: a UUID has 36.
_MAX_ID = 255
#: Characters of what Flower shows as a task's arguments.
_MAX_SHOWN = 1024


@dataclass(frozen=True, kw_only=True)
class TaskMessage:
    """A call of a task: what of a Celery message concerns Redrive. `args` and `kwargs` are plain JSON."""

    task: str
    id: str
    args: list[Any]
    kwargs: dict[str, Any]
    retries: int = 0
    argsrepr: str = ""
    kwargsrepr: str = ""


class CeleryDeadLetters:
    """A source over the dead-letter queue of a Celery queue: what SQS gave up to deliver to a worker, less the wake-ups.

    A wake-up may be lost without harm, the ledger holds its job. All else is handed on (see `MessageReader`).
    """

    def __init__(self, queue: Source, wakeups: frozenset[str]) -> None:
        self._queue = queue
        self._wakeups = wakeups

    @property
    def name(self) -> str:
        """The source that Celery producers share."""
        return self._queue.name

    def receive(self, *, wait: float) -> Sequence[Record]:
        """Return the next batch that is more than wake-ups; empty when there is none. Raises BrokerUnavailable."""
        while records := self._queue.receive(wait=wait):
            wakeups = [record for record in records if task_of(record.body) in self._wakeups]
            self._queue.acknowledge(wakeups)
            if wakeups:
                log.info("forgot wake-ups that no worker took; their jobs are in the ledger", count=len(wakeups))
            if kept := [record for record in records if record not in wakeups]:
                return kept
        return []

    def acknowledge(self, records: Sequence[Record]) -> None:
        """Delete the records' messages. Raises BrokerUnavailable."""
        self._queue.acknowledge(records)

    def give_back(self, records: Sequence[Record]) -> None:
        """Make the records' messages visible again soon. Raises BrokerUnavailable."""
        self._queue.give_back(records)

    def close(self) -> None:
        self._queue.close()


@dataclass(frozen=True)
class MessageReader:
    """Reads Celery messages that no task has read: submissions as `redrive.submit` itself would, all else as rejected."""

    submissions: Reader
    wakeups: frozenset[str] = frozenset()

    def read(self, source: str, record: Record) -> DeadLetter:
        """Return the dead letter that the message is."""
        try:
            message = read_message(record.body)
            check_call(message, self.wakeups)
        except UnreadableBody as error:
            return reject(source, record, error)
        if message.task != SUBMIT:
            return reject(source, record, not_plain())
        return self.submissions.read(source, submitted(record, message.args, message.kwargs))


def submitted(record: Record, args: Sequence[Any], kwargs: dict[str, Any]) -> Record:
    """Return the record of a submission with these arguments: `route, parameters, origin`, by place or by name."""
    fields = dict(zip(("route", "parameters", "origin"), args, strict=False)) | kwargs
    origin = fields.get("origin")
    return replace(
        record,
        body=encode_submission(fields.get("route"), fields.get("parameters")),
        origin={**(origin if isinstance(origin, dict) else {}), **record.origin},
    )


def check_call(message: TaskMessage, wakeups: Container[str]) -> None:
    """Refuse what no task of Redrive's takes: a sweep takes no arguments, a wake-up the id of a job, a submission whatever comes.

    Raises:
        UnreadableBody: "unknown-task" or "wrong-arguments".
    """
    if message.task == SUBMIT:
        return
    if message.task not in wakeups:
        raise UnreadableBody("unknown-task", "the message is for a task that is none of Redrive's")
    match message.args, message.kwargs:
        case [], {**rest} if message.task != RECOVER and not rest:
            return
        case [job_id], {**rest} if message.task == RECOVER and not rest and _is_id(job_id):
            return
    raise UnreadableBody("wrong-arguments", f"the message's arguments are not those of {message.task}")


def _is_id(value: Any) -> bool:
    return type(value) is int and 0 < value <= _MAX_ID_OF_A_JOB


def not_plain() -> UnreadableBody:
    """Return what is wrong with arguments that kombu would make objects of, by whatever code is registered for it."""
    return UnreadableBody("not-plain", "the message's arguments are more than plain JSON")


def task_of(body: bytes) -> str:
    """Return the name of the task that a message is for; empty when it is none of Celery's."""
    try:
        return read_message(body).task
    except UnreadableBody:
        return ""


def read_message(body: bytes) -> TaskMessage:
    """Return the call of a task that a message is.

    Raises:
        UnreadableBody: "not-a-task", or what `read_json` says of the envelope or the arguments. Nothing else, whatever the bytes.
    """
    envelope = _object(read_json(_decoded(body), max_bytes=_MAX_MESSAGE))
    headers = _object(envelope.get("headers"))
    task, task_id, retries = headers.get("task"), headers.get("id"), headers.get("retries")
    content = envelope.get("body")
    if not (
        isinstance(task, str) and task and isinstance(task_id, str) and 0 < len(task_id) <= _MAX_ID and isinstance(content, str)
    ):
        raise _not_a_task("it has no task, id or body")
    if envelope.get("content-type") != "application/json" or headers.get("compression"):
        raise _not_a_task("its arguments are not plain JSON")
    encoded = _object(envelope.get("properties")).get("body_encoding") == "base64"
    arguments = read_json(_unpacked(content) if encoded else content.encode("utf-8", "surrogatepass"), max_bytes=_MAX_MESSAGE)
    match arguments:
        case [list() as args, dict() as kwargs, *_]:
            return TaskMessage(
                task=task,
                id=task_id,
                args=args,
                kwargs=kwargs,
                retries=retries if type(retries) is int and retries > 0 else 0,
                argsrepr=_shown(headers.get("argsrepr")),
                kwargsrepr=_shown(headers.get("kwargsrepr")),
            )
    raise _not_a_task("its arguments are not [args, kwargs, …]")


def _decoded(body: bytes) -> bytes:
    """Return the envelope: a producer's kombu sends it as base64 or plain, and JSON is never base64."""
    try:
        return base64.b64decode(body, validate=True)
    except binascii.Error:
        return body


def _unpacked(content: str) -> bytes:
    try:
        return base64.b64decode(content, validate=True)
    except ValueError as error:
        raise _not_a_task("its arguments are not base64") from error


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _not_a_task("it is no object with headers, properties and a body")
    return value


def _shown(text: Any) -> str:
    return text[:_MAX_SHOWN] if isinstance(text, str) else ""


def _not_a_task(why: str) -> UnreadableBody:
    return UnreadableBody("not-a-task", f"the message is no Celery task: {why}")
