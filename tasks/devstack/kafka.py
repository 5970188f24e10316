"""Embedded Kafka: librdkafka's mock cluster. It runs inside this process and speaks the Kafka protocol on loopback."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from confluent_kafka import Producer

from tasks.dlq.errors import OutOfReach
from tasks.dlq.text import format_count

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Seconds until a cluster that does not answer counts as failed.
TIMEOUT = 10.0


class EmbeddedKafka:
    """A Kafka cluster with one broker. It runs while this context manager is open.

    A producer owns the cluster (https://github.com/confluentinc/librdkafka/blob/master/src/rdkafka_mock.h). The cluster's address
    is in the producer's metadata, and the cluster ends with the producer.

    Attributes:
        bootstrap: the bootstrap servers for other processes.
    """

    def __enter__(self) -> Self:
        """Start the cluster."""
        self._producer = Producer({"bootstrap.servers": "none", "test.mock.num.brokers": 1, "log_level": 3})
        brokers = self._producer.list_topics(timeout=TIMEOUT).brokers.values()
        self.bootstrap = ",".join(f"{broker.host}:{broker.port}" for broker in brokers)
        return self

    def __exit__(self, *_: object) -> None:
        self._producer.purge()
        del self._producer

    def make(self, topic: str) -> int:
        """Create a topic and return its number of partitions. The mock creates topics on first use, with four partitions."""
        return len(self._producer.list_topics(topic, timeout=TIMEOUT).topics[topic].partitions)

    def produce(self, topic: str, value: bytes, *, partition: int, headers: Mapping[str, str]) -> None:
        """Write one message. It is stored when `flush` returns, or earlier."""
        self._producer.produce(topic, value, partition=partition, headers=dict(headers))
        self._producer.poll(0)

    def flush(self) -> None:
        """Return when every message is stored. Raises OutOfReach."""
        left = self._producer.flush(TIMEOUT)
        if left:
            raise OutOfReach(f"{format_count(left, 'message')} not written to Kafka within {TIMEOUT:.0f} s")
