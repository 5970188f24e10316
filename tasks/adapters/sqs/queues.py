"""Creates queues, each with a dead-letter queue, so that SQS deletes nothing that Redrive has not recorded."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import structlog
from botocore.exceptions import ClientError

from tasks.adapters.sqs.client import find_url, is_missing
from tasks.names import DLQ_SUFFIX, FIFO_SUFFIX

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mypy_boto3_sqs import SQSClient
    from mypy_boto3_sqs.literals import QueueAttributeNameType

log = structlog.get_logger("redrive.queues")

#: Seconds for which a queue that Redrive creates keeps a message: the most that SQS allows.
LONGEST_RETENTION = str(14 * 24 * 3600)
_DEFAULT_RETENTION = str(4 * 24 * 3600)


def dead_letter_queue(name: str) -> str:
    """Return the name of the dead-letter queue that Redrive creates for a queue. For a FIFO queue it must be FIFO, too."""
    return f"{name.removesuffix(FIFO_SUFFIX)}{DLQ_SUFFIX}{FIFO_SUFFIX}" if name.endswith(FIFO_SUFFIX) else name + DLQ_SUFFIX


def dead_letter_target(attributes: Mapping[str, str]) -> str | None:
    """Return the name of the dead-letter queue in a queue's attributes."""
    policy = attributes.get("RedrivePolicy")
    return str(json.loads(policy)["deadLetterTargetArn"]).rpartition(":")[2] if policy else None


def ensure_queue(client: SQSClient, name: str, *, visibility_timeout: int, max_receives: int, least_visibility: int = 0) -> str:
    """Create the queue and its dead-letter queue if they are missing. Return the queue's URL.

    An existing queue keeps its attributes, with two exceptions. A queue without a redrive policy gets one. Then a default
    retention is raised, because SQS deletes what is older.

    A FIFO queue is created without content-based deduplication. With it, SQS would drop a failure whose body is equal to one of
    the last five minutes, even if Redrive has recovered that one. A visibility timeout below `least_visibility` is logged.

    Raises:
        botocore's ClientError or BotoCoreError.
    """
    url = _find(client, name)
    attributes = _read_attributes(client, url)
    target = dead_letter_target(attributes)
    _warn_of_short_visibility(name, attributes, least_visibility)
    if url and target and target != dead_letter_queue(name):
        return url  # it has a dead-letter queue of another name
    policy = _make_policy(client, dead_letter_queue(name), max_receives)
    if url is None:
        log.info("queue_created", queue=name)
        wanted = _attributes_for(name)
        wanted["VisibilityTimeout"] = str(visibility_timeout)
        wanted["RedrivePolicy"] = policy
        return client.create_queue(QueueName=name, Attributes=wanted)["QueueUrl"]
    if target is None:
        changes: dict[QueueAttributeNameType, str] = {"RedrivePolicy": policy}
        if attributes.get("MessageRetentionPeriod") == _DEFAULT_RETENTION:  # kombu creates queues like this
            changes["MessageRetentionPeriod"] = LONGEST_RETENTION
        client.set_queue_attributes(QueueUrl=url, Attributes=changes)
        log.info("dead_letter_queue_added", queue=name)
    return url


def _warn_of_short_visibility(name: str, attributes: Mapping[str, str], needed: int) -> None:
    seconds = int(attributes.get("VisibilityTimeout", needed))
    if seconds < needed:
        hint = f"aws sqs set-queue-attributes: VisibilityTimeout={needed}; redrive doctor explains it"
        log.warning("visibility_timeout_short", queue=name, seconds=seconds, needed=needed, hint=hint)


def _read_attributes(client: SQSClient, url: str | None) -> Mapping[str, str]:
    if url is None:
        return {}
    found = client.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])
    return {str(name): value for name, value in found.get("Attributes", {}).items()}


def _make_policy(client: SQSClient, name: str, max_receives: int) -> str:
    """Return the redrive policy to the queue of this name. Create that queue if it is missing."""
    url = _find(client, name) or client.create_queue(QueueName=name, Attributes=_attributes_for(name))["QueueUrl"]
    arn = client.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    return json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": str(max_receives)})


def _attributes_for(name: str) -> dict[QueueAttributeNameType, str]:
    attributes: dict[QueueAttributeNameType, str] = {"MessageRetentionPeriod": LONGEST_RETENTION}
    if name.endswith(FIFO_SUFFIX):
        attributes["FifoQueue"] = "true"
    return attributes


def _find(client: SQSClient, name: str) -> str | None:
    try:
        return find_url(client, name)
    except ClientError as error:
        if is_missing(error):
            return None
        raise
