"""Which SQS queues are one: no two readers of a queue, and no source that empties Redrive's own.

A source reads its queue's dead-letter queue, too. What SQS moves there although it was taken in would count twice, were that
queue another source's: an identity is known within its source alone.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import unquote, urlsplit

from tasks.names import DLQ_SUFFIX, FIFO_SUFFIX, OWN_QUEUES
from tasks.settings.sources import SqsSource
from tasks.settings.urls import canonical_host

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tasks.settings.sections import Broker
    from tasks.settings.values import KeyPath

_PORTS = {"http": 80, "https": 443}
#: The names that SQS has in a region: today's, FIPS, dual stack, a VPC endpoint's, China's; and the older ones, where that
#: without a region is us-east-1's. See https://docs.aws.amazon.com/general/latest/gr/sqs-service.html
_AWS = re.compile(r"(?:[a-z0-9-]+\.)?sqs(?:-fips)?\.([a-z0-9-]+)\.(?:(?:vpce\.)?amazonaws\.com(?:\.cn)?|api\.aws)", re.ASCII)
_OLD_AWS = re.compile(r"(?:([a-z0-9-]+)\.)?queue\.amazonaws\.com(?:\.cn)?", re.ASCII)


class Address(NamedTuple):
    """A queue at an endpoint. boto3 asks the endpoint whatever a queue's URL has as its host: the URL's path alone counts."""

    endpoint: tuple[str, int | None]
    path: tuple[str, ...]

    def is_same(self, other: Address) -> bool:
        """Tell whether both are one queue. A name is that of a URL that ends in it: the account is not known here."""
        known = min(len(self.path), len(other.path))
        return self.endpoint == other.endpoint and self.path[-known:] == other.path[-known:]

    @property
    def dead(self) -> Address:
        """The dead-letter queue that this queue has, unless somebody has given it another one."""
        *account, name = self.path
        end = FIFO_SUFFIX if name.endswith(FIFO_SUFFIX) else ""
        return self._replace(path=(*account, name.removesuffix(FIFO_SUFFIX) + DLQ_SUFFIX + end))


def queue_conflicts(sources: Mapping[str, object], broker: Broker) -> Iterator[tuple[KeyPath, str]]:
    """Yield the path and a clause for each SQS source that reads one of Redrive's own queues, or another source's queue."""
    own = {_address(queue, None, broker): name for name, queue in _own_queues(broker)}
    seen: dict[str, Address] = {}
    addresses = _addresses(sources, broker)
    for name, address in addresses.items():
        where = ("sources", name, "queue")
        if ours := next((queue for each, queue in own.items() if each.is_same(address)), None):
            yield where, f"must not be Redrive's own queue {ours}: name the queue that your consumers send failures to"
        elif first := next((other for other, each in seen.items() if each.is_same(address)), None):
            yield where, f"must not be that of source {first}: each letter has one reader"
        elif living := next((other for other, each in addresses.items() if each.dead.is_same(address)), None):
            yield where, f"must not be the dead-letter queue of source {living}, which reads it: each letter has one reader"
        else:
            seen[name] = address


def others(name: str, sources: Mapping[str, object], broker: Broker) -> dict[str, str]:
    """Return who else reads at the endpoint of source `name`: the reader in words by queue (`name` or `…/account/name`)."""
    addresses = _addresses(sources, broker)
    readers = {address: f"source {other}" for other, address in addresses.items() if other != name}
    readers |= {_address(queue, None, broker): "Redrive itself" for _, queue in _own_queues(broker)}
    return {"/".join(each.path): reader for each, reader in readers.items() if each.endpoint == addresses[name].endpoint}


def _addresses(sources: Mapping[str, object], broker: Broker) -> dict[str, Address]:
    queues = {name: source for name, source in sources.items() if isinstance(source, SqsSource)}
    return {name: _address(source.queue, source.endpoint, broker) for name, source in queues.items()}


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
    """Return one name for what is one host: this machine, and SQS in a region of AWS."""
    name = canonical_host(name)
    if aws := _AWS.fullmatch(name) or _OLD_AWS.fullmatch(name):
        return f"sqs.{aws[1] or 'us-east-1'}.amazonaws.com"
    return name
