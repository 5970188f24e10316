"""SQS as a source: plain JSON messages, received and deleted in batches of ten.

A source also reads the dead-letter queue of its queue: SQS moves messages there that it has delivered too often. It leaves alone
a dead-letter queue that other queues share. If another source reads that queue, this source waits: a message that was recorded
but not deleted would be moved there, and count twice.
"""

from __future__ import annotations

import base64
import json
import math
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import structlog
from botocore.exceptions import ClientError

from tasks.adapters.sqs.client import Connection, find_url, translate_errors
from tasks.dlq.errors import BrokerUnavailable
from tasks.dlq.ports import Record
from tasks.dlq.text import shorten

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.type_defs import (
        ChangeMessageVisibilityBatchRequestEntryTypeDef,
        DeleteMessageBatchRequestEntryTypeDef,
        MessageAttributeValueOutputTypeDef,
        MessageTypeDef,
    )

log = structlog.get_logger("redrive.sqs")

#: Messages in one ReceiveMessage or DeleteMessageBatch.
BATCH = 10
#: The longest wait of ReceiveMessage for a first message, in seconds.
LONGEST_POLL = 20
#: Seconds until SQS delivers again what was given back.
GIVEN_BACK = 5
_ACCOUNT = re.compile(r"[0-9]{12}", re.ASCII)


@dataclass(frozen=True, kw_only=True)
class SqsQueue:
    """A queue that a source reads."""

    #: The name of the source.
    source: str
    #: The name of the queue; a URL if another account owns it.
    queue: str
    connection: Connection = field(default_factory=Connection)
    #: Other readers at this endpoint, such as "source teams", by queue: `name` or `account/name`.
    other_readers: Mapping[str, str] = field(default_factory=dict)
    #: Whether Redrive creates the queue if it is missing.
    managed: bool = False


@dataclass(frozen=True)
class _Receipt:
    queue_url: str
    handle: str


class SqsSource:
    """Reads one queue and its dead-letter queue."""

    def __init__(self, queue: SqsQueue, client: SQSClient | None = None) -> None:
        self.name = queue.source
        self._queue = queue.queue
        self._other_readers = queue.other_readers
        self._client = client or queue.connection.client()
        self._urls: list[str] = []

    def receive(self, *, wait: float) -> Sequence[Record]:
        """Return up to ten records. If the queue has none within `wait` seconds, look into its dead-letter queue.

        Raises:
            BrokerUnavailable: SQS does not answer or has no such queue, or another source reads the dead-letter queue.
        """
        with translate_errors(self._queue):
            queue_url, *dead_letter_urls = self._find_urls()
            for url, seconds in [(queue_url, wait), *((url, 0.0) for url in dead_letter_urls)]:
                messages = self._client.receive_message(
                    QueueUrl=url,
                    MaxNumberOfMessages=BATCH,
                    WaitTimeSeconds=min(math.ceil(seconds), LONGEST_POLL),
                    MessageSystemAttributeNames=["All"],
                    MessageAttributeNames=["All"],
                ).get("Messages", [])
                if messages:
                    return [record_of(message, url) for message in messages]
        return []

    def acknowledge(self, records: Sequence[Record]) -> None:
        """Delete the records' messages. SQS delivers a message again if it does not delete it; its identity is known then.

        Raises:
            BrokerUnavailable: SQS does not answer.
        """
        for url, handles in _batches(records):
            entries: list[DeleteMessageBatchRequestEntryTypeDef] = [
                {"Id": str(number), "ReceiptHandle": handle} for number, handle in enumerate(handles)
            ]
            with translate_errors(self._queue):
                answer = self._client.delete_message_batch(QueueUrl=url, Entries=entries)
            for failed in answer.get("Failed", []):
                log.warning(
                    "message_not_deleted", queue=self._queue, error=failed.get("Code"), hint="it comes again and is known"
                )

    def give_back(self, records: Sequence[Record]) -> None:
        """Make the records' messages visible again within seconds, before the queue's visibility timeout ends.

        Raises:
            BrokerUnavailable: SQS does not answer.
        """
        for url, handles in _batches(records):
            entries: list[ChangeMessageVisibilityBatchRequestEntryTypeDef] = [
                {"Id": str(number), "ReceiptHandle": handle, "VisibilityTimeout": GIVEN_BACK}
                for number, handle in enumerate(handles)
            ]
            with translate_errors(self._queue):
                self._client.change_message_visibility_batch(QueueUrl=url, Entries=entries)

    def close(self) -> None:
        self._client.close()

    def _find_urls(self) -> list[str]:
        """Return the URLs of the queue and, if this source may read it, of its dead-letter queue."""
        if not self._urls:
            url = find_url(self._client, self._queue)
            attributes = self._client.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
            if attributes.get("ContentBasedDeduplication") == "true":
                hint = (
                    "SQS drops equal failures within five minutes: turn ContentBasedDeduplication off, "
                    "and have producers send a MessageDeduplicationId for each failure"
                )
                log.warning("queue_deduplicates", queue=self._queue, hint=hint)
            self._urls = [url, *self._find_dead_letter_url(url, attributes.get("RedrivePolicy"))]
        return self._urls

    def _find_dead_letter_url(self, url: str, policy: str | None) -> list[str]:
        if not policy:
            return []
        *_, account, name = json.loads(policy)["deadLetterTargetArn"].split(":")
        if reader := next((who for queue, who in self._other_readers.items() if _may_be(queue, account, name)), None):
            raise BrokerUnavailable(
                f"source {self.name} waits: {reader} reads {name} as well, the dead-letter queue of its queue {_name(url)}",
                hint="each letter has one reader: leave out one of the two, or give the queue another dead-letter queue",
            )
        try:
            found = self._client.get_queue_url(QueueName=name, QueueOwnerAWSAccountId=account)["QueueUrl"]
        except ClientError as error:
            log.warning("dead_letter_queue_unreadable", queue=name, error=shorten(error))
            return []
        if others := self._list_others(found, url):
            hint = "Redrive does not read it: give each queue a dead-letter queue of its own"
            log.warning("dead_letter_queue_shared", queue=name, shared_with=others, hint=hint)
            return []
        return [found]

    def _list_others(self, dead_letter_url: str, url: str) -> list[str]:
        """Return the other queues with this dead-letter queue; nothing if SQS refuses to list them."""
        try:
            found = self._client.list_dead_letter_source_queues(QueueUrl=dead_letter_url).get("queueUrls", [])
        except ClientError as error:
            log.debug("source_queues_unlisted", queue=dead_letter_url, error=shorten(error))
            return []
        return sorted({_name(each) for each in found} - {_name(url)})


def _may_be(queue: str, account: str, name: str) -> bool:
    """Tell whether `queue` (`name` or `account/name`) may be this queue. A queue without an account fits every account."""
    *path, last = queue.split("/")
    known = path[-1] if path and _ACCOUNT.fullmatch(path[-1]) else account
    return (known, last) == (account, name)


def _batches(records: Sequence[Record]) -> Iterator[tuple[str, Sequence[str]]]:
    """Yield the URL of each queue with receipt handles, as many as one request takes."""
    by_queue: dict[str, list[str]] = {}
    for record in records:
        if isinstance(record.receipt, _Receipt):
            by_queue.setdefault(record.receipt.queue_url, []).append(record.receipt.handle)
    for url, handles in by_queue.items():
        for start in range(0, len(handles), BATCH):
            yield url, handles[start : start + BATCH]


def record_of(message: MessageTypeDef, queue_url: str) -> Record:
    """Return a message as a record. Its identity is SQS's own message id, which survives redelivery."""
    attributes: Mapping[Any, str] = message.get("Attributes", {})
    origin = {
        "queue": _name(queue_url),
        "message_id": message["MessageId"],
        "sent_at": _number(attributes.get("SentTimestamp")),
        "first_received_at": _number(attributes.get("ApproximateFirstReceiveTimestamp")),
        "receive_count": _number(attributes.get("ApproximateReceiveCount")),
        "dead_letter_queue_source": attributes.get("DeadLetterQueueSourceArn"),
        "message_group": attributes.get("MessageGroupId"),
        "deduplication_id": attributes.get("MessageDeduplicationId"),
        "trace": attributes.get("AWSTraceHeader"),
        "attributes": {name: _value(each) for name, each in message.get("MessageAttributes", {}).items()},
    }
    return Record(
        identity=message["MessageId"],
        body=message.get("Body", "").encode("utf-8", "surrogatepass"),
        origin={name: value for name, value in origin.items() if value},
        receipt=_Receipt(queue_url, message["ReceiptHandle"]),
    )


def _name(queue_url: str) -> str:
    return queue_url.rsplit("/", 1)[-1]


def _value(attribute: MessageAttributeValueOutputTypeDef) -> str | dict[str, str]:
    """Return a message attribute as JSON has it: text as such, bytes as base64."""
    if "BinaryValue" in attribute:
        return {"base64": base64.b64encode(attribute["BinaryValue"]).decode()}
    return attribute.get("StringValue", "")


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isdecimal() else None
