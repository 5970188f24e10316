"""The queues that Redrive lives on: each with a dead-letter queue, so that nothing that SQS gives up on is gone."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

import boto3
import structlog
from botocore.config import Config
from botocore.exceptions import ClientError

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

log = structlog.get_logger("redrive.queues")

#: What a queue's dead-letter queue is called.
DEAD = "-dead"
#: SQS keeps a message for at most 14 days; so long must a dead letter wait for whoever reads it.
LONGEST_RETENTION = str(14 * 24 * 3600)


@dataclass(frozen=True, kw_only=True)
class Connection:
    """How SQS is reached; None leaves it to boto3's own chain (environment, profile, instance role)."""

    region: str
    endpoint_url: str | None = None
    access_key_id: str | None = None
    secret_access_key: str | None = None

    def client(self) -> SQSClient:
        """Return a client that gives up within half a minute: whoever asked is told, and asks again."""
        return boto3.client(
            "sqs",
            region_name=self.region,
            endpoint_url=self.endpoint_url,
            aws_access_key_id=self.access_key_id,
            aws_secret_access_key=self.secret_access_key,
            config=Config(connect_timeout=3, read_timeout=25, retries={"total_max_attempts": 3, "mode": "standard"}),
        )


def ensure_queue(client: SQSClient, name: str, *, visibility_timeout: int, max_receives: int) -> str:
    """Return the queue's URL; make it and its dead-letter queue where they are missing.

    An existing queue keeps its attributes, but gets a redrive policy when it has none: without one, SQS throws a message away
    where Redrive wants it kept.

    Raises:
        botocore's ClientError or BotoCoreError.
    """
    dead_url = (
        _find(client, name + DEAD)
        or client.create_queue(QueueName=name + DEAD, Attributes={"MessageRetentionPeriod": LONGEST_RETENTION})["QueueUrl"]
    )
    arn = client.get_queue_attributes(QueueUrl=dead_url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    policy = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": str(max_receives)})
    url = _find(client, name)
    if url is None:
        log.info("created the queue", queue=name)
        return client.create_queue(
            QueueName=name,
            Attributes={
                "VisibilityTimeout": str(visibility_timeout),
                "MessageRetentionPeriod": LONGEST_RETENTION,
                "RedrivePolicy": policy,
            },
        )["QueueUrl"]
    if "RedrivePolicy" not in client.get_queue_attributes(QueueUrl=url, AttributeNames=["RedrivePolicy"]).get("Attributes", {}):
        client.set_queue_attributes(QueueUrl=url, Attributes={"RedrivePolicy": policy})
        log.info("gave the queue a dead-letter queue", queue=name)
    return url


def _find(client: SQSClient, name: str) -> str | None:
    try:
        return client.get_queue_url(QueueName=name)["QueueUrl"]
    except ClientError as error:
        if error.response.get("Error", {}).get("Code", "").endswith(("NonExistentQueue", "QueueDoesNotExist")):
            return None
        raise
