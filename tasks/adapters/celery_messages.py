"""Reads Celery's messages on SQS strictly: any program may have written them.

kombu writes JSON, plain or as base64 (https://docs.celeryq.dev/en/stable/internals/protocol.html, version 2). It has `headers`
(`task`, `id`) and a `body`, which is JSON, plain or as base64: `[args, kwargs, embed]`. Redrive does not use the rest: eta,
expires, limits, callbacks, compression.
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

_MAX_JOB_ID = 2**63 - 1
#: Base64 twice (the message, and the body in it) makes 16 bytes out of 9.
_MAX_MESSAGE = MAX_SUBMISSION * 2
#: Characters of a task's id; a UUID has 36.
_MAX_ID = 255
#: Characters of the arguments that Flower shows.
_MAX_SHOWN = 1024


@dataclass(frozen=True, kw_only=True)
class TaskMessage:
    """The parts of a Celery message that Redrive uses. `args` and `kwargs` are plain JSON."""

    task: str
    id: str
    args: list[Any]
    kwargs: dict[str, Any]
    retries: int = 0
    argsrepr: str = ""
    kwargsrepr: str = ""


class CeleryDeadLetters:
    """A source over the dead-letter queue of a Celery queue. It deletes wake-ups: the ledger holds their jobs."""

    def __init__(self, queue: Source, wakeups: frozenset[str]) -> None:
        self._queue = queue
        self._wakeups = wakeups

    @property
    def name(self) -> str:
        return self._queue.name

    def receive(self, *, wait: float) -> Sequence[Record]:
        """Return the next batch without its wake-ups; empty at the end. Raises BrokerUnavailable."""
        while records := self._queue.receive(wait=wait):
            wakeups = [record for record in records if find_task(record.body) in self._wakeups]
            self._queue.acknowledge(wakeups)
            if wakeups:
                log.info("wakeups_deleted", count=len(wakeups), hint="the ledger holds their jobs")
            if kept := [record for record in records if record not in wakeups]:
                return kept
        return []

    def acknowledge(self, records: Sequence[Record]) -> None:
        self._queue.acknowledge(records)

    def give_back(self, records: Sequence[Record]) -> None:
        self._queue.give_back(records)

    def close(self) -> None:
        self._queue.close()


@dataclass(frozen=True)
class MessageReader:
    """Reads Celery messages that no worker has taken: submissions as `redrive.submit` does. It rejects all others."""

    submissions: Reader
    wakeups: frozenset[str] = frozenset()

    def read(self, source: str, record: Record) -> DeadLetter:
        """Return the message as a dead letter."""
        try:
            message = read_message(record.body)
            check_call(message, self.wakeups)
        except UnreadableBody as error:
            return reject(source, record, error)
        if message.task != SUBMIT:
            return reject(source, record, not_plain())
        return self.submissions.read(source, submitted(record, message.args, message.kwargs))


def submitted(record: Record, args: Sequence[Any], kwargs: dict[str, Any]) -> Record:
    """Return the record of a submission with the arguments `route, parameters, origin`, by position or by name."""
    fields = dict(zip(("route", "parameters", "origin"), args, strict=False)) | kwargs
    origin = fields.get("origin")
    return replace(
        record,
        body=encode_submission(fields.get("route"), fields.get("parameters")),
        origin={**(origin if isinstance(origin, dict) else {}), **record.origin},
    )


def check_call(message: TaskMessage, wakeups: Container[str]) -> None:
    """Check that a task of Redrive takes these arguments. A sweep takes none, `recover` a job's id; a submission takes any.

    Raises:
        UnreadableBody: "unknown-task" or "wrong-arguments".
    """
    if message.task == SUBMIT:
        return
    if message.task not in wakeups:
        raise UnreadableBody("unknown-task", "the message is not for a task of Redrive")
    match message.args, message.kwargs:
        case [], {**rest} if message.task != RECOVER and not rest:
            return
        case [job_id], {**rest} if message.task == RECOVER and not rest and _is_id(job_id):
            return
    raise UnreadableBody("wrong-arguments", f"the message's arguments are not those of {message.task}")


def _is_id(value: Any) -> bool:
    return type(value) is int and 0 < value <= _MAX_JOB_ID


def not_plain() -> UnreadableBody:
    """Return the error for arguments that kombu would decode to objects, with any code that is registered."""
    return UnreadableBody("not-plain", "the message's arguments are not plain JSON")


def find_task(body: bytes) -> str:
    """Return the name of the task that a message is for; empty if it is not a Celery message."""
    try:
        return read_message(body).task
    except UnreadableBody:
        return ""


def read_message(body: bytes) -> TaskMessage:
    """Return a message as the call of a task.

    Raises:
        UnreadableBody: "not-a-task", or the error of `read_json`. No other exception.
    """
    envelope = _object(read_json(_decode(body), max_bytes=_MAX_MESSAGE))
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
    arguments = read_json(_decode_body(content) if encoded else content.encode("utf-8", "surrogatepass"), max_bytes=_MAX_MESSAGE)
    match arguments:
        case [list() as args, dict() as kwargs, *_]:
            return TaskMessage(
                task=task,
                id=task_id,
                args=args,
                kwargs=kwargs,
                retries=retries if type(retries) is int and retries > 0 else 0,
                argsrepr=_shorten(headers.get("argsrepr")),
                kwargsrepr=_shorten(headers.get("kwargsrepr")),
            )
    raise _not_a_task("its arguments are not [args, kwargs, …]")


def _decode(body: bytes) -> bytes:
    """Return the JSON of a message. kombu may send it as base64; JSON itself is never valid base64."""
    try:
        return base64.b64decode(body, validate=True)
    except binascii.Error:
        return body


def _decode_body(content: str) -> bytes:
    try:
        return base64.b64decode(content, validate=True)
    except ValueError as error:
        raise _not_a_task("its arguments are not base64") from error


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise _not_a_task("it has no headers, properties and body")
    return value


def _shorten(text: Any) -> str:
    return text[:_MAX_SHOWN] if isinstance(text, str) else ""


def _not_a_task(why: str) -> UnreadableBody:
    return UnreadableBody("not-a-task", f"the message is not a Celery task: {why}")
