"""Finds topics that were deleted and created again: Kafka gives them a new topic id, and their offsets start again at 0.

librdkafka may continue at its old position and skip the first records. So each commit holds the topic id in its metadata. The
next member compares it, and starts at the beginning if the id differs. Brokers before Kafka 2.8 have no topic ids; then names
are compared.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from confluent_kafka import OFFSET_BEGINNING, KafkaException, TopicCollection
from confluent_kafka.admin import AdminClient

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from concurrent.futures import Future

    from confluent_kafka import Consumer, TopicPartition

#: Seconds between two requests in the background.
INTERVAL = 2.0
_PREFIX = "redrive topic-id="
_NONE = "AAAAAAAAAAAAAAAAAAAAAA"  # sixteen zeros: the broker has no ids
_UNKNOWN = "?"  # the broker did not answer


class TopicIds:
    """The ids that topics had when their partitions were assigned. `config` is the consumer's."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._config = {**{name: value for name, value in config.items() if name != "logger"}, "log_level": 0}
        self._admin: AdminClient | None = None
        self._known: dict[str, str] = {}
        self._asked: Mapping[str, Future[Any]] = {}
        self._since = 0.0

    def label(self, topic: str) -> str:
        """Return the metadata for commits of this topic."""
        known = self._known.get(topic, _UNKNOWN)
        return "" if known == _UNKNOWN else _PREFIX + known

    def find_starts(self, consumer: Consumer, partitions: Sequence[TopicPartition], *, within: float) -> list[TopicPartition]:
        """Read the topics' ids, before any record is read.

        Returns:
            The partitions with the offset to start at: the beginning if the commit is of another topic. Empty if none is.
        """
        for topic in {each.topic for each in partitions} - self._known.keys():
            self._known[topic] = _UNKNOWN
            try:
                cluster = self._get_admin().list_topics(topic, timeout=within)
                # librdkafka's mock has a controller that is not a broker. It would not answer.
                mock = cluster.controller_id >= 0 and cluster.controller_id not in cluster.brokers
                found = None if mock else _id_of(self._ask([topic], within)[topic], within)
            except (KafkaException, TimeoutError):
                continue
            if found:
                self._known[topic] = found
            else:
                del self._known[topic]
        if not any(self.label(each.topic) for each in partitions):
            return []
        try:
            committed = consumer.committed(list(partitions), timeout=within)
        except KafkaException:
            self._known |= dict.fromkeys({each.topic for each in partitions} & self._known.keys(), _UNKNOWN)
            return []
        stale = [each for each in committed if (each.metadata or "").startswith(_PREFIX) and self._is_of_another(each)]
        for each in stale:
            each.offset = OFFSET_BEGINNING
        return committed if stale else []

    def find_changed(self) -> set[str]:
        """Return the topics whose id has changed, or was unknown and is known now. Returns at once."""
        found = set()
        if self._asked and all(answer.done() for answer in self._asked.values()):
            for topic, answer in self._asked.items():
                try:
                    now = _id_of(answer, 0)
                except (KafkaException, TimeoutError):
                    continue  # the topic is deleted, or the broker does not answer
                if now and now != self._known.get(topic, now):
                    found.add(topic)
            self._asked = {}
        if self._known and not self._asked and time.monotonic() - self._since > INTERVAL:
            self._since = time.monotonic()
            self._asked = self._ask(self._known, INTERVAL * 5)
        return found

    def _is_of_another(self, partition: TopicPartition) -> bool:
        label = self.label(partition.topic)
        return bool(label) and partition.metadata != label

    def _ask(self, topics: Iterable[str], within: float) -> Mapping[str, Future[Any]]:
        return self._get_admin().describe_topics(TopicCollection(list(topics)), request_timeout=within)

    def _get_admin(self) -> AdminClient:
        """Return an admin client. A consumer that lists topics in a callback of its poll would abort at the next callback."""
        self._admin = self._admin or AdminClient(self._config)
        return self._admin


def _id_of(answer: Future[Any], within: float) -> str | None:
    found = str(answer.result(within).topic_id)
    return None if found == _NONE else found
