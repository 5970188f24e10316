"""Finds SQS queues that two sources would read, and sources that would read Redrive's own queues.

A source also reads the dead-letter queue of its queue. SQS may move a message there that Redrive has already recorded. If
that queue belonged to another source, the message would count twice: Redrive knows an identity only within its source.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Literal, NamedTuple, Self
from urllib.parse import unquote, urlsplit

from pydantic import AfterValidator, Field

from tasks.names import DLQ_SUFFIX, FIFO_SUFFIX, OWN_QUEUES
from tasks.settings.mappings import KIND, MappingTable
from tasks.settings.sections import QUEUE_NAME, Broker
from tasks.settings.urls import HttpUrl, canonical_host, check_http, masked
from tasks.settings.values import Display, KeyPath

_PORTS = {"http": 80, "https": 443}
#: The hosts of SQS in a region: default, FIPS, dual stack, VPC endpoint, China. The older hosts follow; without a region
#: they are in us-east-1. See https://docs.aws.amazon.com/general/latest/gr/sqs-service.html
_AWS = re.compile(r"(?:[a-z0-9-]+\.)?sqs(?:-fips)?\.([a-z0-9-]+)\.(?:(?:vpce\.)?amazonaws\.com(?:\.cn)?|api\.aws)", re.ASCII)
_OLD_AWS = re.compile(r"(?:([a-z0-9-]+)\.)?queue\.amazonaws\.com(?:\.cn)?", re.ASCII)


_QUEUE = re.compile(rf"(?=.{{1,80}}\Z){QUEUE_NAME}(\.fifo)?", re.ASCII)


def _check_queue(value: str) -> str:
    if "://" in value:
        return check_http(value)
    if not _QUEUE.fullmatch(value):
        raise ValueError
    return value


#: A queue of another account is named by its URL.
Queue = Annotated[
    str,
    AfterValidator(_check_queue),
    Display(
        "a queue's name (A-Z a-z 0-9 - _, at most 80 characters, .fifo at the end of a FIFO queue's) or its URL",
        show=masked,
        secret=True,
    ),
]


class SqsTable(MappingTable):
    """An SQS queue that any language fills with plain JSON."""

    kind: Annotated[Literal["sqs"], KIND]
    queue: Queue
    endpoint: HttpUrl | None = Field(default=None, description="default: the broker's")

    @classmethod
    def find_conflicts(cls, sources: Mapping[str, Self], broker: Broker) -> Iterator[tuple[KeyPath, str]]:
        return queue_conflicts(sources, broker)


class Address(NamedTuple):
    """A queue at an endpoint. boto3 sends requests to the endpoint, so the host in a queue's URL does not count."""

    #: Host and port.
    endpoint: tuple[str, int | None]
    #: The queue's name, after the account if that is known.
    path: tuple[str, ...]

    def is_same(self, other: Self) -> bool:
        """Tell whether both are one queue. Without an account, a name matches the queue of this name in any account."""
        known = min(len(self.path), len(other.path))
        return self.endpoint == other.endpoint and self.path[-known:] == other.path[-known:]

    @property
    def dead_letter_queue(self) -> Self:
        """The dead-letter queue that Redrive would create for this queue."""
        *account, name = self.path
        end = FIFO_SUFFIX if name.endswith(FIFO_SUFFIX) else ""
        return self._replace(path=(*account, name.removesuffix(FIFO_SUFFIX) + DLQ_SUFFIX + end))


def queue_conflicts(sources: Mapping[str, SqsTable], broker: Broker) -> Iterator[tuple[KeyPath, str]]:
    """Yield the path and a clause for each source that reads a queue of Redrive or of another source."""
    own = {_address(queue, None, broker): name for name, queue in _own_queues(broker)}
    seen: dict[str, Address] = {}
    addresses = _addresses(sources, broker)
    for name, address in addresses.items():
        where = ("sources", name, "queue")
        if ours := next((queue for each, queue in own.items() if each.is_same(address)), None):
            yield where, f"must not be Redrive's own queue {ours}: name the queue that your consumers send failures to"
        elif first := next((other for other, each in seen.items() if each.is_same(address)), None):
            yield where, f"must not be that of source {first}: each dead letter has one reader"
        elif parent := next((other for other, each in addresses.items() if each.dead_letter_queue.is_same(address)), None):
            yield where, f"must not be the dead-letter queue of source {parent}, which reads it: each dead letter has one reader"
        else:
            seen[name] = address


def other_readers(name: str, sources: Mapping[str, SqsTable], broker: Broker) -> dict[str, str]:
    """Return the other readers at the endpoint of source `name`, such as "source teams", by queue (`name` or `account/name`)."""
    addresses = _addresses(sources, broker)
    readers = {address: f"source {other}" for other, address in addresses.items() if other != name}
    readers |= {_address(queue, None, broker): "Redrive itself" for _, queue in _own_queues(broker)}
    return {"/".join(each.path): reader for each, reader in readers.items() if each.endpoint == addresses[name].endpoint}


def _addresses(sources: Mapping[str, SqsTable], broker: Broker) -> dict[str, Address]:
    return {name: _address(source.queue, source.endpoint, broker) for name, source in sources.items()}


def _own_queues(broker: Broker) -> Iterator[tuple[str, str]]:
    for name in OWN_QUEUES:
        yield broker.queue_prefix + name, broker.queue_prefix + name
        if name in broker.predefined_queues:
            yield name, broker.predefined_queues[name]


def _address(queue: str, endpoint: str | None, broker: Broker) -> Address:
    parts = urlsplit(endpoint or broker.endpoint_url or f"https://sqs.{broker.region}.amazonaws.com")
    path = urlsplit(queue).path if "://" in queue else queue
    segments = (unquote(segment.partition(";")[0]) for segment in path.split("/"))
    return Address((_host(parts.hostname or ""), parts.port or _PORTS.get(parts.scheme)), tuple(filter(None, segments)) or ("",))


def _host(name: str) -> str:
    """Return one name for all spellings of this machine, and of SQS in a region."""
    name = canonical_host(name)
    if aws := _AWS.fullmatch(name) or _OLD_AWS.fullmatch(name):
        return f"sqs.{aws[1] or 'us-east-1'}.amazonaws.com"
    return name
