"""Kafka on this machine: librdkafka's mock cluster, which lives in this process and speaks the Kafka protocol on loopback."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from confluent_kafka import Producer

from tasks.dlq.alerts.text import in_words
from tasks.dlq.errors import OutOfReach

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Seconds that the cluster gets to answer.
PATIENCE = 10.0


class EmbeddedKafka:
    """A context manager; `bootstrap` is what other processes take as bootstrap servers.

    The cluster belongs to a producer (https://github.com/confluentinc/librdkafka/blob/master/src/rdkafka_mock.h), is reached
    through its metadata, and is gone with it.
    """

    def __enter__(self) -> Self:
        """Start the cluster. Raises OutOfReach."""
        self._producer = Producer({"bootstrap.servers": "none", "test.mock.num.brokers": 1, "log_level": 3})
        brokers = self._producer.list_topics(timeout=PATIENCE).brokers.values()
        self.bootstrap = ",".join(f"{broker.host}:{broker.port}" for broker in brokers)
        return self

    def __exit__(self, *_: object) -> None:
        """End the cluster, and forget what it held."""
        self._producer.purge()
        del self._producer

    def make(self, topic: str) -> int:
        """Make a topic (the mock makes them on use, with four partitions) and return how many partitions it has."""
        return len(self._producer.list_topics(topic, timeout=PATIENCE).topics[topic].partitions)

    def produce(self, topic: str, value: bytes, *, partition: int, headers: Mapping[str, str]) -> None:
        """Write one message, some time before `flush` returns."""
        self._producer.produce(topic, value, partition=partition, headers=dict(headers))
        self._producer.poll(0)

    def flush(self) -> None:
        """Return when everything has been written. Raises OutOfReach."""
        left = self._producer.flush(PATIENCE)
        if left:
            raise OutOfReach(f"{in_words(left, 'message')} not written to Kafka within {PATIENCE:.0f} s")
