"""Celery's messages in a dead-letter queue: what SQS gave up to deliver to a worker.

A wake-up may be lost without harm, the ledger holds its job. A submission may not: it is handed on. Whatever else lies there is
handed on too, and becomes a rejected dead letter with its bytes.

The envelope is kombu's (https://docs.celeryq.dev/en/stable/internals/protocol.html): base64 of, or plain, JSON with `headers`
(`task`, `id`) and a `body` that is base64 of JSON `[args, kwargs, embed]`.
"""

from __future__ import annotations

import base64
import binascii
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import structlog

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tasks.dlq.ports import Record, Source

log = structlog.get_logger("redrive.sqs")

SUBMIT = "redrive.submit"


class CeleryDeadLetters:
    """A source over the dead-letter queue of a Celery queue: yields submissions as plain JSON, forgets wake-ups."""

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
            kept = [submission_of(record) for record in records if record not in wakeups]
            if kept:
                return kept
        return []

    def acknowledge(self, records: Sequence[Record]) -> None:
        """Delete the records' messages. Raises BrokerUnavailable."""
        self._queue.acknowledge(records)

    def give_back(self, records: Sequence[Record]) -> None:
        """Make the records' messages visible again soon. Raises BrokerUnavailable."""
        self._queue.give_back(records)


def task_of(body: bytes) -> str:
    """Return the name of the task that a message is for; empty when it is none of Celery's."""
    headers = _envelope(body).get("headers")
    task = headers.get("task") if isinstance(headers, dict) else None
    return task if isinstance(task, str) else ""


def submission_of(record: Record) -> Record:
    """Return a submission's record as `redrive.submit` itself would make it; any other record unchanged."""
    if task_of(record.body) != SUBMIT:
        return record
    envelope = _envelope(record.body)
    try:
        args, kwargs, _ = json.loads(base64.b64decode(envelope["body"], validate=True))
        fields = dict(zip(("route", "parameters", "origin"), args, strict=False)) | kwargs
        body = json.dumps(fields).encode()
    except (KeyError, TypeError, ValueError, RecursionError, binascii.Error):
        return record
    return replace(record, body=body, identity=str(envelope["headers"].get("id", record.identity)))


def _envelope(body: bytes) -> dict[str, Any]:
    for text in (body, _from_base64(body)):
        try:
            envelope = json.loads(text)
        except (ValueError, RecursionError):
            continue
        if isinstance(envelope, dict):
            return envelope
    return {}


def _from_base64(body: bytes) -> bytes:
    try:
        return base64.b64decode(body, validate=True)
    except binascii.Error:
        return b""
