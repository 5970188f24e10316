"""The queues that Redrive lives on: each with a dead-letter queue, so that nothing that SQS gives up on is gone."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import boto3
import structlog
from botocore.config import Config
from botocore.exceptions import ClientError

from tasks.names import DLQ_SUFFIX, FIFO_SUFFIX

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.literals import QueueAttributeNameType

log = structlog.get_logger("redrive.queues")

#: SQS keeps a message for at most 14 days; so long must a dead letter wait for whoever reads it.
LONGEST_RETENTION = str(14 * 24 * 3600)
#: What SQS keeps messages for where nobody said.
_DEFAULT_RETENTION = str(4 * 24 * 3600)


@dataclass(frozen=True, kw_only=True)
class Connection:
    """How SQS is reached; None leaves it to boto3's own chain (environment, profile, instance role)."""

    region: str
    endpoint_url: str | None = None
    access_key_id: str | None = None
    secret_access_key: str | None = None

    def client(self, *, patient: bool = True) -> SQSClient:
        """Return a client that gives up after three tries of up to half a minute; an impatient one after one of five seconds."""
        waits, tries = (25, 3) if patient else (5, 1)
        return boto3.client(
            "sqs",
            region_name=self.region,
            endpoint_url=self.endpoint_url,
            aws_access_key_id=self.access_key_id,
            aws_secret_access_key=self.secret_access_key,
            config=Config(connect_timeout=3, read_timeout=waits, retries={"total_max_attempts": tries, "mode": "standard"}),
        )


def dead_letter_queue(name: str) -> str:
    """Return what the dead-letter queue of this queue is called; that of a FIFO queue has to be FIFO_SUFFIX, too."""
    return f"{name.removesuffix(FIFO_SUFFIX)}{DLQ_SUFFIX}{FIFO_SUFFIX}" if name.endswith(FIFO_SUFFIX) else name + DLQ_SUFFIX


def ensure_queue(client: SQSClient, name: str, *, visibility_timeout: int, max_receives: int, least_visibility: int = 0) -> str:
    """Return the queue's URL; make it and its dead-letter queue where they are missing.

    An existing queue keeps its attributes, but gets a redrive policy when it has none, and then a retention that is longer than
    the default: without these, SQS throws a message away where Redrive wants it kept. A FIFO queue is made without content-based
    deduplication: by that, SQS would throw away the second of two failures with the same body within five minutes, even when the
    first has been recovered before. One that hides messages for less than `least_visibility` seconds is told of.

    Raises:
        botocore's ClientError or BotoCoreError.
    """
    url = _find(client, name)
    has = _attributes_of(client, url)
    target = _dead_letter_target(has)
    _warn_of_short_visibility(name, has, least_visibility)
    if url and target and not target.endswith(f":{dead_letter_queue(name)}"):
        return url  # somebody has given it a dead-letter queue already
    policy = _policy(client, dead_letter_queue(name), max_receives)
    if url is None:
        log.info("created the queue", queue=name)
        attributes = _attributes(name)
        attributes["VisibilityTimeout"] = str(visibility_timeout)
        attributes["RedrivePolicy"] = policy
        return client.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]
    if target is None:
        given: dict[QueueAttributeNameType, str] = {"RedrivePolicy": policy}
        if has.get("MessageRetentionPeriod") == _DEFAULT_RETENTION:  # as kombu makes one that was gone
            given["MessageRetentionPeriod"] = LONGEST_RETENTION
        client.set_queue_attributes(QueueUrl=url, Attributes=given)
        log.info("gave the queue a dead-letter queue", queue=name)
    return url


def _warn_of_short_visibility(name: str, has: Mapping[str, str], needed: int) -> None:
    hidden = int(has.get("VisibilityTimeout", needed))
    if hidden < needed:
        hint = f"aws sqs set-queue-attributes: VisibilityTimeout={needed}; redrive doctor explains it"
        log.warning("SQS hands a message out again while it is in hand", queue=name, seconds=hidden, needed=needed, hint=hint)


def _attributes_of(client: SQSClient, url: str | None) -> Mapping[str, str]:
    if url is None:
        return {}
    found = client.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])
    return {str(name): value for name, value in found.get("Attributes", {}).items()}


def _dead_letter_target(has: Mapping[str, str]) -> str | None:
    """Return the ARN of the dead-letter queue that a queue has."""
    return str(json.loads(has["RedrivePolicy"])["deadLetterTargetArn"]) if has.get("RedrivePolicy") else None


def _policy(client: SQSClient, name: str, max_receives: int) -> str:
    """Return the redrive policy to the queue of this name, which is made where it is missing."""
    url = _find(client, name) or client.create_queue(QueueName=name, Attributes=_attributes(name))["QueueUrl"]
    arn = client.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    return json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": str(max_receives)})


def _attributes(name: str) -> dict[QueueAttributeNameType, str]:
    made: dict[QueueAttributeNameType, str] = {"MessageRetentionPeriod": LONGEST_RETENTION}
    if name.endswith(FIFO_SUFFIX):
        made["FifoQueue"] = "true"
    return made


def _find(client: SQSClient, name: str) -> str | None:
    try:
        return client.get_queue_url(QueueName=name)["QueueUrl"]
    except ClientError as error:
        if error.response.get("Error", {}).get("Code", "").endswith(("NonExistentQueue", "QueueDoesNotExist")):
            return None
        raise
