"""How far a group is behind its topics, asked from outside of the group."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from confluent_kafka import OFFSET_INVALID, TopicPartition

from tasks.adapters.kafka.client import configuration, open_consumer, talking_to

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_TIMEOUT = 10.0


@dataclass(frozen=True, kw_only=True)
class Lag:
    """One partition. `committed` is the offset to be read next, None before the first commit; `low` and `high` what Kafka holds.

    `lag` counts offsets from there to the end; where a writer uses transactions, their markers are among them.
    """

    topic: str
    partition: int
    committed: int | None
    low: int
    high: int

    @property
    def lag(self) -> int:
        """Offsets that are still to be read."""
        return self.high - min(max(self.committed or 0, self.low), self.high)


def lags(
    name: str, *, bootstrap: str, topics: Sequence[str], group: str = "redrive", properties: Mapping[str, Any] | None = None
) -> list[Lag]:
    """Return the lag of each partition, by topic and number; a topic that does not exist has none. Joins nothing.

    Raises:
        BrokerUnavailable: Kafka does not answer, or refuses.
        ConfigError: librdkafka does not take the properties.
    """
    consumer = open_consumer(name, configuration(bootstrap, group, properties or {}), lambda _error: None)
    try:
        with talking_to(bootstrap):
            wanted = [
                TopicPartition(topic, number)
                for topic in sorted(topics)
                for number in sorted(consumer.list_topics(topic, timeout=_TIMEOUT).topics[topic].partitions)
            ]
            if not wanted:
                return []
            found = []
            for each in consumer.committed(wanted, timeout=_TIMEOUT):
                low, high = consumer.get_watermark_offsets(each, timeout=_TIMEOUT)
                committed = None if each.offset == OFFSET_INVALID else each.offset
                found.append(Lag(topic=each.topic, partition=each.partition, committed=committed, low=low, high=high))
            return found
    finally:
        consumer.close()
