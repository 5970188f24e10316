"""Messages that overlap, and consumers that are made to conflict over them: once for each meeting, not by luck."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING

from company import Employee
from confluent_kafka import Consumer, ConsumerGroupTopicPartitions, Producer, TopicPartition
from waiting import TEST_TIMEOUT, until

if TYPE_CHECKING:
    from company import Company, Owner
    from confluent_kafka import Message
    from jvm_servers import KafkaBroker

#: Pairs of messages that meet: each pair gives exactly one conflict.
MEETINGS = 8
#: One for each instance of the consumer.
PARTITIONS = 2
POISON = b"\x00\xff is no JSON"


@dataclass
class Rehearsal:
    """One run. The consumers' group is called as their topic."""

    company: Company
    owner: Owner
    broker: KafkaBroker
    topic: str

    def run(self) -> None:
        """Let the truth change, tell the company in messages, and wait until each was dealt with.

        The messages of a meeting are about {A, B} and {A, C}, in this partition and in that; both instances have read A before
        one writes. The company knows all these people before, as they were.
        """
        hundreds = [range(hundred, hundred + MEETINGS) for hundred in (100, 200, 300)]
        before = [Employee(number, "Reception", 1) for hundred in hundreds for number in hundred]
        self.owner.learn(*before)
        assert {self.company.sync(person.id) for person in before} == {204}
        self.owner.learn(*(replace(person, department="Sales", revision=3) for person in before))
        until(self._members_are_there, what="a partition for each consumer")
        producer = Producer({"bootstrap.servers": self.broker.bootstrap})
        for meeting, numbers in enumerate(zip(*hundreds, strict=True)):
            a, b, c = (self.owner.truth[number] for number in numbers)
            messages = [replace(a, department="Purchase", revision=2), b], [c, a]
            for partition, employees in enumerate(messages):
                body = json.dumps({"employees": [asdict(employee) for employee in employees]}).encode()
                producer.produce(self.topic, body, partition=partition, headers={"meeting": str(meeting).encode()})
        producer.produce(self.topic, POISON, partition=0)
        assert producer.flush(20) == 0
        until(lambda: self._committed() == 2 * MEETINGS + 1, what="the consumers' last commit")

    def stale(self) -> list[int]:
        """Return the employees whom the company has otherwise than they are."""
        return [number for number, employee in self.owner.truth.items() if self.company.employee(number) != employee]

    def dead_letters(self, count: int) -> list[Message]:
        """Return so many records of the dead-letter topic."""
        consumer = Consumer({"bootstrap.servers": self.broker.bootstrap, "group.id": "reader", "auto.offset.reset": "earliest"})
        consumer.subscribe([f"{self.topic}-dlt"])
        try:
            found: list[Message] = []
            until(lambda: len(found) == count or found.extend(consumer.consume(count, timeout=1)), what=f"{count} dead letters")
            return found
        finally:
            consumer.close()

    def _members_are_there(self) -> bool:
        group = self.broker.admin.describe_consumer_groups([self.topic])[self.topic].result(TEST_TIMEOUT)
        return sum(bool(member.assignment and member.assignment.topic_partitions) for member in group.members) == PARTITIONS

    def _committed(self) -> int:
        partitions = [TopicPartition(self.topic, number) for number in range(PARTITIONS)]
        asked = ConsumerGroupTopicPartitions(self.topic, partitions)
        answer = self.broker.admin.list_consumer_group_offsets([asked])[self.topic].result(TEST_TIMEOUT)
        return sum(max(0, partition.offset) for partition in answer.topic_partitions)
