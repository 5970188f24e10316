"""Reads topics from outside the group: how far the group is behind, and what it would read next. It commits nothing."""

from __future__ import annotations

import time
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from confluent_kafka import OFFSET_INVALID, KafkaError, TopicPartition

from tasks.adapters.kafka.client import open_consumer, translate, translate_errors
from tasks.adapters.kafka.records import record_of
from tasks.dlq.errors import BrokerUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from confluent_kafka import Consumer, Message

    from tasks.adapters.kafka.client import KafkaTopics
    from tasks.dlq.ports import Record

#: Seconds for one answer.
_TIMEOUT = 10.0
#: Seconds of one poll.
_POLL = 0.5


@dataclass(frozen=True, kw_only=True)
class Lag:
    """How far the group is behind in one partition."""

    topic: str
    partition: int
    #: The offset to be read next; None before the first commit.
    committed: int | None
    #: The first offset that Kafka holds, and the end.
    low: int
    high: int

    @property
    def lag(self) -> int:
        """Offsets that are still to be read. If a writer uses transactions, their markers count, too."""
        return self.high - min(max(self.committed or 0, self.low), self.high)


def read_lags(topics: KafkaTopics) -> list[Lag]:
    """Return the lag of each partition, by topic and number. A topic that does not exist has no partitions.

    Raises:
        BrokerUnavailable: Kafka does not answer, or refuses.
        ConfigError: librdkafka refuses the properties.
    """
    with _open(topics, lambda _error: None) as consumer, translate_errors(topics.bootstrap):
        partitions = [
            TopicPartition(topic, number)
            for topic in sorted(topics.topics)
            for number in sorted(consumer.list_topics(topic, timeout=_TIMEOUT).topics[topic].partitions)
        ]
        if not partitions:
            return []
        return [_read_lag(consumer, each) for each in consumer.committed(partitions, timeout=_TIMEOUT)]


def _read_lag(consumer: Consumer, partition: TopicPartition) -> Lag:
    low, high = consumer.get_watermark_offsets(partition, timeout=_TIMEOUT)
    committed = None if partition.offset == OFFSET_INVALID else partition.offset
    return Lag(topic=partition.topic, partition=partition.partition, committed=committed, low=low, high=high)


@contextmanager
def sample(topics: KafkaTopics) -> Iterator[Iterator[Record]]:
    """Yield the records behind the group's committed offsets, up to the end of each partition.

    Raises:
        BrokerUnavailable: Kafka does not answer or refuses, or there is no such topic.
        ConfigError: librdkafka refuses the properties.
    """
    lags = read_lags(topics)
    if missing := sorted(set(topics.topics) - {each.topic for each in lags}):
        hint = "create it, or correct `topics`"
        raise BrokerUnavailable(f"Kafka at {topics.bootstrap} has no topic {', '.join(missing)}", hint=hint)
    starts = [TopicPartition(each.topic, each.partition, each.high - each.lag) for each in lags if each.lag]
    errors: list[KafkaError] = []
    with _open(topics, errors.append) as consumer:
        with translate_errors(topics.bootstrap):
            consumer.assign(starts)  # without the group: its members keep their partitions
        recogniser = topics.make_recogniser()
        yield (record_of(message, recogniser) for message in _read_to_end(topics.bootstrap, consumer, starts, errors))


@contextmanager
def _open(topics: KafkaTopics, on_error: Callable[[KafkaError], None]) -> Iterator[Consumer]:
    consumer = open_consumer(topics.source, topics.configure(), on_error)
    try:
        yield consumer
    finally:
        consumer.close()


def _read_to_end(
    bootstrap: str, consumer: Consumer, partitions: Sequence[TopicPartition], errors: Sequence[KafkaError]
) -> Iterator[Message]:
    unread = {(each.topic, each.partition) for each in partitions}
    since = time.monotonic()
    while unread:
        message = consumer.poll(_POLL)
        if message is None:
            if time.monotonic() - since > _TIMEOUT:
                hint = "check the brokers and the partitions' leaders"
                silent = BrokerUnavailable(f"Kafka at {bootstrap} delivers nothing", hint=hint)
                raise translate(bootstrap, errors[-1]) if errors else silent
            continue
        error = message.error()
        if error is None:
            since = time.monotonic()
            yield message
        elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - librdkafka's codes have underscores
            unread.discard((message.topic() or "", message.partition() or 0))
        else:
            raise translate(bootstrap, error)
