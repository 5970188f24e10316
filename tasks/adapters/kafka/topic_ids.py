"""Which topic a name stands for: one that is deleted and made anew gives its offsets out again, under another topic id.

librdkafka may read on at its old position, and what is committed then has skipped what is before. So each commit says, in its
metadata, of which topic it is; whoever is given the partition next begins at the beginning where that topic is gone. Brokers
that do not tell topic ids (before Kafka 2.8) are taken at the name.
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

#: Seconds between two questions, asked in the background.
INTERVAL = 2.0
_PREFIX = "redrive topic-id="
_NONE = "AAAAAAAAAAAAAAAAAAAAAA"  # sixteen zeros: the broker tells no ids
_UNSURE = "?"  # it could not be asked: no id is this one


class TopicIds:
    """The ids that topics had when their partitions were handed out. `config` is the consumer's."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._config = {**{name: value for name, value in config.items() if name != "logger"}, "log_level": 0}
        self._admin: AdminClient | None = None
        self._known: dict[str, str] = {}
        self._asked: Mapping[str, Future[Any]] = {}
        self._since = 0.0

    def label(self, topic: str) -> str:
        """Return what a commit of this topic has as its metadata."""
        known = self._known.get(topic, _UNSURE)
        return "" if known == _UNSURE else _PREFIX + known

    def starts(self, consumer: Consumer, partitions: Sequence[TopicPartition], *, within: float) -> list[TopicPartition]:
        """Learn the ids of the topics that partitions are handed out of, before anything is read.

        Returns:
            The partitions, those at their beginning whose committed offset is of another topic; none where all may go on.
        """
        for topic in {each.topic for each in partitions} - self._known.keys():
            self._known[topic] = _UNSURE
            try:
                cluster = self._asker().list_topics(topic, timeout=within)
                # A controller that is none of the brokers is that of librdkafka's mock: nobody would answer.
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
            self._known |= dict.fromkeys({each.topic for each in partitions} & self._known.keys(), _UNSURE)
            return []
        stale = [each for each in committed if (each.metadata or "").startswith(_PREFIX) and self._is_of_another(each)]
        for each in stale:
            each.offset = OFFSET_BEGINNING
        return committed if stale else []

    def changed(self) -> set[str]:
        """Return the topics that are other ones now, or that were not known and are. Waits for nothing."""
        found = set()
        if self._asked and all(answer.done() for answer in self._asked.values()):
            for topic, answer in self._asked.items():
                try:
                    now = _id_of(answer, 0)
                except (KafkaException, TimeoutError):
                    continue  # it is deleted, or the broker is away
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
        return self._asker().describe_topics(TopicCollection(list(topics)), request_timeout=within)

    def _asker(self) -> AdminClient:
        """Return a client of its own: a consumer that is asked for topics within its poll aborts at the poll's next callback."""
        self._admin = self._admin or AdminClient(self._config)
        return self._admin


def _id_of(answer: Future[Any], within: float) -> str | None:
    found = str(answer.result(within).topic_id)
    return None if found == _NONE else found
