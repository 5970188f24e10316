"""One commit of offsets, with an end: librdkafka waits for a broker that has fallen silent for as long as it takes."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from confluent_kafka import KafkaError, KafkaException, TopicPartition

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from confluent_kafka import Consumer

#: The group has handed the partition on, or is about to.
_MOVED = (
    KafkaError.ILLEGAL_GENERATION,
    KafkaError.UNKNOWN_MEMBER_ID,
    KafkaError.REBALANCE_IN_PROGRESS,
    KafkaError.FENCED_INSTANCE_ID,
    KafkaError._ASSIGNMENT_LOST,  # noqa: SLF001 - how librdkafka's own codes are spelled
    KafkaError._NO_OFFSET,  # noqa: SLF001
)


class Commit(threading.Thread):
    """Commits `offsets` synchronously in a thread of its own, beginning at once; `label` tells what is kept beside a topic's.

    Attributes:
        offsets: the offset to be read next, by topic and partition.
        moved: once it has ended, what the group said where the partition was no longer this member's.
        failed: once it has ended, what else was said.
    """

    def __init__(self, consumer: Consumer, offsets: Mapping[tuple[str, int], int], label: Callable[[str], str]) -> None:
        super().__init__(name="kafka-commit", daemon=True)
        self.offsets = dict(offsets)
        self.moved: KafkaError | None = None
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

    def ended(self, *, within: float) -> bool:
        """Wait for at most so many seconds; tell whether it has ended."""
        self.join(within)
        return not self.is_alive()
