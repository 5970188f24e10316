"""SQS as a source: plain JSON that any language sends, received and deleted in batches of ten.

A queue and its dead-letter queue are one source: what SQS gave up to deliver belongs to the same work. One that other queues
share is left alone: what they put there is not this source's to read. Where it has another reader, this source waits: a message
that was taken in and not deleted would be moved there, and count twice.
"""

from __future__ import annotations

import base64
import json
import math
import re
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import structlog
from botocore.exceptions import BotoCoreError, ClientError

from tasks.dlq.errors import BrokerUnavailable
from tasks.dlq.ports import Record
from tasks.dlq.shortage import HINT, shortage_of
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

#: What one ReceiveMessage or DeleteMessageBatch takes.
BATCH = 10
#: The longest that ReceiveMessage waits for a first message, in seconds.
LONGEST_POLL = 20
#: Seconds until SQS hands out again what was given back.
GIVEN_BACK = 5
_ACCOUNT = re.compile(r"[0-9]{12}", re.ASCII)
_MISSING = ("AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist")
_COUNTS: Sequence[
    Literal["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible", "ApproximateNumberOfMessagesDelayed"]
] = (
    "ApproximateNumberOfMessages",
    "ApproximateNumberOfMessagesNotVisible",
    "ApproximateNumberOfMessagesDelayed",
)


@dataclass(frozen=True)
class _Receipt:
    queue_url: str
    handle: str


class SqsSource:
    """One queue with its dead-letter queue.

    Args:
        name: the source's name.
        client: of the queue's endpoint.
        queue: a name, or a URL for another account's queue.
        others: what else is read at this endpoint: the reader in words by queue (`name` or `…/account/name`).
    """

    def __init__(self, name: str, client: SQSClient, queue: str, others: Mapping[str, str] | None = None) -> None:
        self._name = name
        self._client = client
        self._queue = queue
        self._readers = others or {}
        self._urls: list[str] = []

    @property
    def name(self) -> str:
        """The source's name in redrive.toml."""
        return self._name

    def receive(self, *, wait: float) -> Sequence[Record]:
        """Return up to ten records; only the queue itself is waited for, its dead-letter queue is looked at when that is empty.

        Raises:
            BrokerUnavailable: SQS does not answer or has no such queue, or its dead-letter queue has another reader.
        """
        with talking_to(self._queue):
            queue_url, *dead_letter_urls = self._addresses()
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
        """Delete the records' messages. One that SQS does not delete comes again and is known by its identity.

        Raises:
            BrokerUnavailable: SQS does not answer.
        """
        for url, handles in _batches(records):
            entries: list[DeleteMessageBatchRequestEntryTypeDef] = [
                {"Id": str(number), "ReceiptHandle": handle} for number, handle in enumerate(handles)
            ]
            with talking_to(self._queue):
                answer = self._client.delete_message_batch(QueueUrl=url, Entries=entries)
            for failed in answer.get("Failed", []):
                log.warning("SQS kept a message; it comes again and is known", queue=self._queue, error=failed.get("Code"))

    def give_back(self, records: Sequence[Record]) -> None:
        """Make the records' messages visible again within seconds, instead of after the queue's visibility timeout.

        Raises:
            BrokerUnavailable: SQS does not answer.
        """
        for url, handles in _batches(records):
            entries: list[ChangeMessageVisibilityBatchRequestEntryTypeDef] = [
                {"Id": str(number), "ReceiptHandle": handle, "VisibilityTimeout": GIVEN_BACK}
                for number, handle in enumerate(handles)
            ]
            with talking_to(self._queue):
                self._client.change_message_visibility_batch(QueueUrl=url, Entries=entries)

    def _addresses(self) -> list[str]:
        """Return the queue's URL and, where it has a redrive policy, that of its dead-letter queue."""
        if not self._urls:
            url = self._queue if "://" in self._queue else self._client.get_queue_url(QueueName=self._queue)["QueueUrl"]
            attributes = self._client.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
            if attributes.get("ContentBasedDeduplication") == "true":
                hint = "turn ContentBasedDeduplication off, and have producers send a MessageDeduplicationId for each failure"
                log.warning("SQS drops a failure that is like one of the last five minutes", queue=self._queue, hint=hint)
            self._urls = [url, *self._dead_letter_url(url, attributes.get("RedrivePolicy"))]
        return self._urls

    def _dead_letter_url(self, url: str, policy: str | None) -> list[str]:
        if not policy:
            return []
        *_, account, name = json.loads(policy)["deadLetterTargetArn"].split(":")
        if reader := next((who for queue, who in self._readers.items() if _is_same(queue, account, name)), None):
            raise BrokerUnavailable(
                f"source {self._name} waits: {reader} reads {name} as well, the dead-letter queue of its queue {_name(url)}",
                hint="each letter has one reader: leave out one of the two, or give the queue another dead-letter queue",
            )
        try:
            found = self._client.get_queue_url(QueueName=name, QueueOwnerAWSAccountId=account)["QueueUrl"]
        except ClientError as error:
            log.warning("the dead-letter queue is not readable; it is left alone", queue=name, error=shorten(error))
            return []
        if others := self._others(found, url):
            hint = "give each of them a dead-letter queue of its own"
            log.warning("the dead-letter queue is shared; it is left alone", queue=name, shared_with=others, hint=hint)
            return []
        return [found]

    def _others(self, dead_letter_url: str, url: str) -> list[str]:
        """Return what else SQS moves into a dead-letter queue; nothing where SQS does not tell."""
        try:
            found = self._client.list_dead_letter_source_queues(QueueUrl=dead_letter_url).get("queueUrls", [])
        except ClientError as error:
            log.debug("whether the dead-letter queue is shared is not known", queue=dead_letter_url, error=shorten(error))
            return []
        return sorted({_name(each) for each in found} - {_name(url)})


def _is_same(queue: str, account: str, name: str) -> bool:
    """Tell whether a queue (`name` or `…/account/name`) is that of an ARN. Without an account it may be."""
    *path, last = queue.split("/")
    told = path[-1] if path and _ACCOUNT.fullmatch(path[-1]) else account
    return (told, last) == (account, name)


def _batches(records: Sequence[Record]) -> Iterator[tuple[str, Sequence[str]]]:
    """Yield the records' queues (URL) with their receipt handles, as many as one request takes."""
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


def count_messages(client: SQSClient, queue: str) -> int:
    """Return about how many messages a queue holds, by its name or URL: visible, in flight and delayed ones.

    Raises:
        BrokerUnavailable: SQS does not answer, or refuses.
    """
    with talking_to(queue):
        url = queue if "://" in queue else client.get_queue_url(QueueName=queue)["QueueUrl"]
        found = client.get_queue_attributes(QueueUrl=url, AttributeNames=list(_COUNTS))["Attributes"]
        return sum(int(found[name]) for name in _COUNTS)


@contextmanager
def talking_to(queue: str) -> Iterator[None]:
    """Turn what boto3 raises into BrokerUnavailable, with the queue's name and what to do."""
    try:
        yield
    except ClientError as error:
        if error.response.get("Error", {}).get("Code") in _MISSING:
            hint = "create it; with broker.manage_queues = true the first worker, beat or intake does"
            raise BrokerUnavailable(f"SQS has no queue {queue}", hint=hint) from error
        raise BrokerUnavailable(f"SQS refused, at queue {queue}: {shorten(error)}", hint="check the IAM policy") from error
    except BotoCoreError as error:
        if missing := shortage_of(error):
            raise BrokerUnavailable(f"SQS was not asked, at queue {queue}: {missing}", hint=HINT) from error
        hint = "see whether SQS runs at broker.url and can be reached; then check the region and the credentials"
        raise BrokerUnavailable(f"SQS does not answer, at queue {queue}: {shorten(error)}", hint=hint) from error
    except KeyError as error:  # botocore takes an answer that was cut off in its headers for an empty one
        raise BrokerUnavailable(f"SQS' answer was cut off, at queue {queue}: it has no {error}", hint="ask again") from error


def _name(queue_url: str) -> str:
    return queue_url.rsplit("/", 1)[-1]


def _value(attribute: MessageAttributeValueOutputTypeDef) -> str | dict[str, str]:
    """Return a message attribute as JSON has it: text as such, bytes as base64."""
    if "BinaryValue" in attribute:
        return {"base64": base64.b64encode(attribute["BinaryValue"]).decode()}
    return attribute.get("StringValue", "")


def _number(text: str | None) -> int | None:
    return int(text) if text and text.isdecimal() else None
