"""Counts which offsets are delivered and settled, and commits each partition up to the first that is not settled."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from tasks.adapters.kafka.records import Place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from confluent_kafka import Consumer

    from tasks.dlq.ports import Record

#: Topic and number.
Partition = tuple[str, int]
#: The group has given the partition to another member, or is about to.
_MOVED = (
    KafkaError.ILLEGAL_GENERATION,
    KafkaError.UNKNOWN_MEMBER_ID,
    KafkaError.REBALANCE_IN_PROGRESS,
    KafkaError.FENCED_INSTANCE_ID,
    KafkaError._ASSIGNMENT_LOST,  # noqa: SLF001 - librdkafka's codes have underscores
    KafkaError._NO_OFFSET,  # noqa: SLF001
)


class Offsets:
    """The offsets of one member, in the partitions that it has."""

    def __init__(self) -> None:
        #: Delivered, and neither settled nor given back.
        self.open: dict[Partition, set[int]] = {}
        #: To be committed.
        self.due: dict[Partition, int] = {}
        self._next: dict[Partition, int] = {}  # to be delivered next

    def deliver(self, records: Iterable[Record]) -> None:
        """Note that these records are delivered."""
        for record in records:
            partition, offset = partition_of(record), _place(record).offset
            self.open.setdefault(partition, set()).add(offset)
            self._next[partition] = offset + 1

    def settle(self, records: Iterable[Record]) -> list[Partition]:
        """Note that these records are settled. Return the partitions that another member has now: they are not committed."""
        moved = []
        for partition, offsets in by_partition(records).items():
            if partition not in self.open:
                moved.append(partition)
                continue
            self.open[partition] -= offsets
            self.due[partition] = min(self.open[partition], default=self._next[partition])
            if not self.open[partition]:
                del self.open[partition]
        return moved

    def give_back(self, offsets: Mapping[Partition, Iterable[int]]) -> dict[Partition, int]:
        """Note that each partition is delivered again from the first of these offsets on. Return the first offsets."""
        firsts = {partition: min(each) for partition, each in offsets.items() if partition in self.open}
        for partition, first in firsts.items():
            self._next[partition] = first
            if before := {offset for offset in self.open.pop(partition) if offset < first}:
                self.open[partition] = before
        return firsts

    def forget(self, partitions: Iterable[Partition]) -> None:
        """Note that another member has these partitions now."""
        for partition in partitions:
            self.open.pop(partition, None)
            self.due.pop(partition, None)
            self._next.pop(partition, None)


class Commit(threading.Thread):
    """Commits offsets in a thread, which starts at once: librdkafka has no timeout for a broker that does not answer."""

    def __init__(self, consumer: Consumer, offsets: Mapping[Partition, int], label: Callable[[str], str]) -> None:
        """Start. `label` returns the metadata for the commits of a topic."""
        super().__init__(name="kafka-commit", daemon=True)
        #: The offset to be read next, by partition.
        self.offsets = dict(offsets)
        #: At the end: the error of a partition that another member has now.
        self.moved: KafkaError | None = None
        #: At the end: any other error.
        self.failed: KafkaError | None = None
        self._consumer = consumer
        self._label = label
        self.start()

    def run(self) -> None:
        """Commit."""
        try:
            offsets = self.offsets.items()
            wanted = [TopicPartition(topic, number, offset, self._label(topic)) for (topic, number), offset in offsets]
            done = self._consumer.commit(offsets=wanted, asynchronous=False)
            errors = [each.error for each in done or () if each.error]
        except KafkaException as error:
            errors = [error.args[0]]
        for each in errors:
            if each.code() in _MOVED:
                self.moved = each
            else:
                self.failed = each

    def wait(self, seconds: float) -> bool:
        """Wait for at most so many seconds. Tell whether the commit has ended."""
        self.join(seconds)
        return not self.is_alive()


def partition_of(record: Record) -> Partition:
    """Return the partition that a record came from."""
    place = _place(record)
    return place.topic, place.partition


def by_partition(records: Iterable[Record]) -> dict[Partition, set[int]]:
    """Return the offsets of records by partition."""
    found: dict[Partition, set[int]] = {}
    for record in records:
        found.setdefault(partition_of(record), set()).add(_place(record).offset)
    return found


def _place(record: Record) -> Place:
    assert isinstance(record.receipt, Place)  # noqa: S101 - this source's own records
    return record.receipt
