"""A dead-letter topic that is deleted and made anew while it is read: its new letters begin at offset 0, as the old ones did."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from confluent_kafka import Consumer, KafkaException, Producer, TopicPartition
from waiting import TEST_TIMEOUT, until

from tasks.adapters.kafka import KafkaSource, KafkaTopics, read_lags

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from jvm_servers import KafkaBroker

PARTITIONS = 2
BEFORE = 20
AFTER = 80
STRATEGIES = ("range", "cooperative-sticky")
#: librdkafka itself would notice only after the test.
PROPERTIES = {"topic.metadata.refresh.interval.ms": "300000", "session.timeout.ms": "6000"}


class Topic:
    """A topic, what was read of it, and its only reader."""

    def __init__(self, broker: KafkaBroker, name: str, properties: Mapping[str, str]) -> None:
        self.name = name
        self.seen: dict[str, bytes] = {}
        self._broker = broker
        self._properties = properties
        broker.make_topics(name, partitions=PARTITIONS)
        self.source = self.another()

    def another(self) -> KafkaSource:
        return KafkaSource(self._topics)

    @property
    def _topics(self) -> KafkaTopics:
        return KafkaTopics(
            source="dlt", bootstrap=self._broker.bootstrap, topics=[self.name], group=self.name, properties=self._properties
        )

    def write(self, generation: str, number: int) -> None:
        producer = Producer({"bootstrap.servers": self._broker.bootstrap})
        for each in range(number):
            producer.produce(self.name, f"{generation} {each}".encode(), partition=each % PARTITIONS)
        assert producer.flush(20) == 0

    def read(self) -> None:
        records = self.source.receive(wait=0.2)
        self.seen |= {record.identity: record.body for record in records}
        self.source.acknowledge(records)

    def read_until(self, number: int) -> None:
        """Read until so many letters were seen, and all is committed."""
        until(lambda: self.read() or (len(self.seen) >= number and self.lag() == 0), what=f"{number} letters")
        assert len(set(self.seen.values())) == len(self.seen) == number

    def lag(self) -> int:
        return sum(each.lag for each in read_lags(self._topics))

    def make_anew(self) -> None:
        self._broker.admin.delete_topics([self.name])[self.name].result(TEST_TIMEOUT)
        until(self._made, what="the topic")

    def commit(self, offset: int, label: str) -> None:
        """Commit for the group, from outside of it."""
        consumer = Consumer({"bootstrap.servers": self._broker.bootstrap, "group.id": self.name})
        places = [TopicPartition(self.name, number, offset, label) for number in range(PARTITIONS)]
        consumer.commit(offsets=places, asynchronous=False)
        consumer.close()

    def _made(self) -> bool:
        try:
            self._broker.make_topics(self.name, partitions=PARTITIONS)
        except KafkaException:
            return False
        return True


@pytest.fixture(params=STRATEGIES)
def topic(kafka_broker: KafkaBroker, request: pytest.FixtureRequest) -> Iterator[Topic]:
    name = "".join(letter if letter.isalnum() else "-" for letter in request.node.name)
    made = Topic(kafka_broker, name, {**PROPERTIES, "partition.assignment.strategy": request.param})
    yield made
    made.source.close()


def test_a_topic_that_is_made_anew_is_read_from_its_beginning(topic: Topic):
    topic.write("before", BEFORE)
    topic.read_until(BEFORE)

    topic.make_anew()
    topic.write("after", AFTER)

    topic.read_until(BEFORE + AFTER)


def test_a_commit_of_the_topic_before_skips_nothing_of_the_new_one(topic: Topic):
    """A member may have committed once more before it noticed, and have died then."""
    topic.write("now", AFTER)
    topic.commit(BEFORE, "redrive topic-id=of-the-topic-before")
    topic.read_until(AFTER)


def test_a_commit_of_the_same_topic_or_of_other_tools_stands(topic: Topic):
    topic.write("now", AFTER)
    topic.commit(AFTER // PARTITIONS - 1, "by hand")
    topic.read_until(PARTITIONS)
    topic.source.close()
    topic.source = topic.another()
    topic.write("later", PARTITIONS)
    topic.seen.clear()
    topic.read_until(PARTITIONS)
