"""The client of SQS, and its errors as Redrive's."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import boto3
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from tasks.dlq.errors import BrokerUnavailable
from tasks.dlq.shortage import HINT, shortage_of
from tasks.dlq.text import shorten

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mypy_boto3_sqs import SQSClient

_COUNTS: Sequence[
    Literal["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible", "ApproximateNumberOfMessagesDelayed"]
] = (
    "ApproximateNumberOfMessages",
    "ApproximateNumberOfMessagesNotVisible",
    "ApproximateNumberOfMessagesDelayed",
)


@dataclass(frozen=True, kw_only=True)
class Connection:
    """How to connect to SQS. boto3 finds what is None in the environment, the profile or the instance role."""

    region: str | None = None
    endpoint_url: str | None = None
    access_key_id: str | None = None
    secret_access_key: str | None = field(default=None, repr=False)

    def client(self, *, timeout: int = 25, tries: int = 3) -> SQSClient:
        """Return a new client. `timeout` is in seconds: longer than a long poll, unless nobody polls."""
        return boto3.client(
            "sqs",
            region_name=self.region,
            endpoint_url=self.endpoint_url,
            aws_access_key_id=self.access_key_id,
            aws_secret_access_key=self.secret_access_key,
            config=Config(connect_timeout=3, read_timeout=timeout, retries={"total_max_attempts": tries, "mode": "standard"}),
        )


def find_url(client: SQSClient, queue: str) -> str:
    """Return the URL of a queue, given by its name or its URL. Raises botocore's errors."""
    return queue if "://" in queue else client.get_queue_url(QueueName=queue)["QueueUrl"]


def is_missing(error: ClientError) -> bool:
    """Tell whether SQS answered that there is no such queue. The code depends on the protocol: JSON or query."""
    return error.response.get("Error", {}).get("Code", "").endswith(("NonExistentQueue", "QueueDoesNotExist"))


def count_messages(client: SQSClient, queue: str) -> int:
    """Return about how many messages a queue holds, by its name or URL: visible, in flight and delayed ones.

    Raises:
        BrokerUnavailable: SQS does not answer, or refuses.
    """
    with translate_errors(queue):
        found = client.get_queue_attributes(QueueUrl=find_url(client, queue), AttributeNames=list(_COUNTS))["Attributes"]
        return sum(int(found[name]) for name in _COUNTS)


@contextmanager
def translate_errors(queue: str) -> Iterator[None]:
    """Raise botocore's errors as BrokerUnavailable, with the queue's name and what to do."""
    try:
        yield
    except ClientError as error:
        if is_missing(error):
            hint = "create it; with broker.manage_queues = true the first worker, beat or intake does"
            raise BrokerUnavailable(f"SQS has no queue {queue}", hint=hint) from error
        raise BrokerUnavailable(f"SQS refused, at queue {queue}: {shorten(error)}", hint="check the IAM policy") from error
    except BotoCoreError as error:
        if missing := shortage_of(error):
            raise BrokerUnavailable(f"SQS was not asked, at queue {queue}: {missing}", hint=HINT) from error
        hint = "see whether SQS runs at broker.url and can be reached; then check the region and the credentials"
        raise BrokerUnavailable(f"SQS does not answer, at queue {queue}: {shorten(error)}", hint=hint) from error
    except KeyError as error:  # botocore reads an answer that ends in its headers as an empty one
        raise BrokerUnavailable(f"SQS' answer was cut off, at queue {queue}: it has no {error}", hint="ask again") from error
