"""A look at Kafka topics from outside of the group: what the group would read next. It joins nothing and commits nothing."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from confluent_kafka import KafkaError, TopicPartition

from tasks.adapters.kafka.client import configuration, open_consumer, talking_to, unavailable
from tasks.adapters.kafka.dialects import DIALECTS, custom
from tasks.adapters.kafka.lag import lags
from tasks.adapters.kafka.origin import Recogniser
from tasks.adapters.kafka.records import record_of
from tasks.dlq.errors import BrokerUnavailable

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping, Sequence

    from confluent_kafka import Consumer, Message

    from tasks.dlq.ports import Record

#: Seconds that nothing may come, from partitions that are not read to their end.
_PATIENCE = 10.0
_GLANCE = 0.5


def sample(
    name: str,
    *,
    bootstrap: str,
    topics: Sequence[str],
    group: str = "redrive",
    properties: Mapping[str, Any] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Generator[Record]:
    """Yield the records behind the group's committed offsets, up to the end of each partition; the arguments are `KafkaSource`'s.

    Raises:
        BrokerUnavailable: Kafka does not answer or refuses, or there is no such topic.
        ConfigError: librdkafka does not take the properties.
    """
    behind = lags(name, bootstrap=bootstrap, topics=topics, group=group, properties=properties)
    if missing := sorted(set(topics) - {each.topic for each in behind}):
        raise BrokerUnavailable(f"Kafka at {bootstrap} has no topic {', '.join(missing)}", hint="create it, or correct `topics`")
    starts = [TopicPartition(each.topic, each.partition, each.high - each.lag) for each in behind if each.lag]
    troubles: list[KafkaError] = []
    consumer = open_consumer(name, configuration(bootstrap, group, properties or {}), troubles.append)
    recogniser = Recogniser((custom(headers), *DIALECTS) if headers else DIALECTS)
    try:
        with talking_to(bootstrap):
            consumer.assign(starts)  # by hand: nobody else's partitions move, and no offset is kept
        for message in _messages(bootstrap, consumer, {(each.topic, each.partition) for each in starts}, troubles):
            yield record_of(message, recogniser)
    finally:
        consumer.close()


def _messages(
    bootstrap: str, consumer: Consumer, unread: set[tuple[str, int]], troubles: Sequence[KafkaError]
) -> Iterator[Message]:
    """Yield messages until each of the `unread` partitions is read to its end."""
    since = time.monotonic()
    while unread:
        message = consumer.poll(_GLANCE)
        if message is None:
            if time.monotonic() - since > _PATIENCE:
                hint = "check the brokers and the partitions' leaders"
                raise (
                    unavailable(bootstrap, troubles[-1])
                    if troubles
                    else BrokerUnavailable(f"Kafka at {bootstrap} delivers nothing", hint=hint)
                )
            continue
        error = message.error()
        if error is None:
            since = time.monotonic()
            yield message
        elif error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001 - how librdkafka's own codes are spelled
            unread.discard((message.topic() or "", message.partition() or 0))
        else:
            raise unavailable(bootstrap, error)
