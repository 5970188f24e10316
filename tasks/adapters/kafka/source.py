"""Kafka topics as a source: read in a consumer group, and committed after the ledger's commit.

The committed offset of a partition never passes a record that is not settled. A record that was neither acknowledged nor given
back is given back by the next `receive`.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import structlog
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from tasks.adapters.kafka.client import check_configuration, is_cooperative, open_consumer, translate, translate_errors
from tasks.adapters.kafka.offsets import Commit, Offsets, by_partition, partition_of
from tasks.adapters.kafka.records import record_of
from tasks.adapters.kafka.topic_ids import TopicIds
from tasks.dlq.errors import BrokerUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from confluent_kafka import Consumer, Message

    from tasks.adapters.kafka.client import KafkaTopics
    from tasks.adapters.kafka.offsets import Partition
    from tasks.dlq.ports import Record

log = structlog.get_logger("redrive.kafka")

#: Messages in a batch: one transaction of the ledger.
BATCH = 1000
#: Seconds for a group to assign its partitions, and for a broker to report the end of each.
PATIENCE = 30.0
#: Seconds for a broker that does not answer to come back, before an error is raised.
OUTAGE = 5.0
#: Seconds of one poll, after which `close` may end the wait.
_POLL = 0.5


class KafkaSource:
    """Reads topics as one member of a consumer group. It connects with the first `receive`; a fork must not share it.

    Raises:
        ConfigError: librdkafka refuses the properties.
    """

    def __init__(self, topics: KafkaTopics) -> None:
        self.name = topics.source
        self._bootstrap = topics.bootstrap
        self._topics = list(topics.topics)
        self._config = topics.configure()
        check_configuration(self.name, self._config)
        self._recogniser = topics.make_recogniser()
        self._lock = threading.Lock()  # librdkafka's consumer must not be closed while it is read
        self._closing = False
        self._consumer: Consumer | None = None
        self._forget()

    def receive(self, *, wait: float) -> Sequence[Record]:
        """Return up to 1000 records; none only when each of this member's partitions has been read to its end.

        `wait` begins when the group has assigned the partitions: joining takes seconds.

        Raises:
            BrokerUnavailable: Kafka does not answer or refuses, there is no such topic, or no partition was assigned in time.
        """
        with self._lock:
            self._return(self._offsets.open)
            self._check_topic_ids()
            consumer = self._consumer or self._join()
            self._commit()
            first = self._poll(consumer, wait)
            if first is None:
                return []
            with translate_errors(self._bootstrap):
                messages = [first, *consumer.consume(BATCH - 1, timeout=0.0)]
            records = [record_of(message, self._recogniser) for message in messages if self._is_record(message)]
            records = [each for each in records if partition_of(each) in self._assigned]  # else another member has it now
            self._offsets.deliver(records)
            return records

    def acknowledge(self, records: Sequence[Record]) -> None:
        """Commit each partition up to its first record that is not settled.

        A partition that another member has now is not committed: that member reads the records again, and they are known.

        Raises:
            BrokerUnavailable: Kafka does not answer. A later call repeats the commit.
        """
        with self._lock:
            for partition in self._offsets.settle(records):
                log.info("partition_moved", source=self.name, partition=partition, hint="what comes again is known")
            self._check_topic_ids()
            self._commit()

    def give_back(self, records: Sequence[Record]) -> None:
        """Seek back, in each partition, to the first of these records."""
        with self._lock:
            self._return(by_partition(records))

    def close(self) -> None:
        """Leave the group, after a running `receive`, so that other members take over at once. It can be used again."""
        self._closing = True
        with self._lock:
            self._leave()
            self._closing = False

    # --- the group ------------------------------------------------------------------------------------------------

    def _forget(self) -> None:
        self._joined = False
        self._error: KafkaError | None = None
        self._missing: set[str] = set()
        self._assigned: set[Partition] = set()
        self._unread: set[Partition] = set()  # not read to the end
        self._offsets = Offsets()
        self._committing: Commit | None = None
        self._ids = TopicIds(self._config)

    def _join(self) -> Consumer:
        self._consumer = open_consumer(self.name, self._config, self._on_error)
        with translate_errors(self._bootstrap):
            self._consumer.subscribe(self._topics, on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_revoke)
        return self._consumer

    def _leave(self) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer and (self._committing is None or self._committing.wait(OUTAGE)):
            consumer.close()  # otherwise the commit still uses it, and the group removes this member after the session timeout
        self._forget()

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        if starts := self._ids.find_starts(consumer, partitions, within=OUTAGE):
            assign_anew = consumer.incremental_assign if is_cooperative(self._config) else consumer.assign
            assign_anew(starts)
            log.warning("topic_recreated", source=self.name, hint="it is read from its beginning")
        self._joined, self._error = True, None
        self._assigned |= _named(partitions)
        self._unread |= _named(partitions)
        self._missing -= {each.topic for each in partitions}
        log.info("partitions_assigned", source=self.name, partitions=_readable(partitions))

    def _on_revoke(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        gone = _named(partitions)
        self._assigned -= gone
        self._unread -= gone
        self._joined = bool(self._assigned)
        self._offsets.forget(gone)
        log.info("partitions_revoked", source=self.name, partitions=_readable(partitions))

    def _on_error(self, error: KafkaError) -> None:
        self._error = error

    # --- reading --------------------------------------------------------------------------------------------------

    def _poll(self, consumer: Consumer, wait: float) -> Message | None:
        """Return the next record; None if there is none within `wait` seconds after all partitions were read to their end."""
        began = time.monotonic()
        ready: float | None = None  # when all partitions had been read
        while not self._closing:
            message = consumer.poll(_poll_seconds(wait, began, ready))
            if message is not None and self._is_record(message):
                return message
            now = time.monotonic()
            if not self._joined or self._unread:
                ready = None
                if now - began > (OUTAGE if self._error or self._missing.issuperset(self._topics) else PATIENCE):
                    raise self._explain()
            elif ready is None:
                ready = now
            if ready is not None and now - ready >= wait:
                if self._error:
                    self._check_broker(consumer)
                return None
        return None

    def _is_record(self, message: Message) -> bool:
        """Tell whether a message is a record, and not an event of librdkafka. Note what the event says."""
        partition = (message.topic() or "", message.partition() or 0)
        error = message.error()
        if error is None:
            self._unread.add(partition)
            self._error = None
            return True
        if error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001
            self._unread.discard(partition)
            self._error = None
        elif error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
            self._missing.add(partition[0])
            log.warning("topic_missing", source=self.name, topic=partition[0], hint="it is read as soon as it exists")
        elif error.code() == KafkaError._MAX_POLL_EXCEEDED:  # noqa: SLF001
            log.warning("member_expired", source=self.name, hint="it polled too rarely; it joins again with the next poll")
        else:
            self._error = error
            if error.fatal():
                self._leave()
                raise translate(self._bootstrap, error)
        return False

    def _check_broker(self, consumer: Consumer) -> None:
        """Check whether the broker answers again: without messages, librdkafka does not report it."""
        with translate_errors(self._bootstrap):
            consumer.list_topics(self._topics[0], timeout=OUTAGE)
        self._error = None

    def _explain(self) -> BrokerUnavailable:
        if self._error:
            return translate(self._bootstrap, self._error)
        if self._missing and not self._assigned:
            topics = ", ".join(sorted(self._missing))
            return BrokerUnavailable(f"Kafka at {self._bootstrap} has no topic {topics}", hint="create it, or correct `topics`")
        if not self._joined:
            hint = "the group is still rebalancing: another member may be slow, or just have died"
            return BrokerUnavailable(f"Kafka at {self._bootstrap} has assigned no partitions yet", hint=hint)
        silent = ", ".join(f"{topic}/{number}" for topic, number in sorted(self._unread)[:5])
        return BrokerUnavailable(f"Kafka at {self._bootstrap} delivers nothing of {silent}", hint="check the partition's leader")

    # --- offsets --------------------------------------------------------------------------------------------------

    def _commit(self) -> None:
        """Commit what is due, after the previous commit has ended."""
        self._end_commit()
        if self._offsets.due and self._consumer is not None:
            self._committing, self._offsets.due = Commit(self._consumer, self._offsets.due, self._ids.label), {}
            self._end_commit()

    def _end_commit(self) -> None:
        commit = self._committing
        if commit is None:
            return
        if not commit.wait(OUTAGE):
            hint = "check the brokers; the commit continues as soon as they answer"
            raise BrokerUnavailable(f"Kafka at {self._bootstrap} does not answer a commit", hint=hint)
        self._committing = None
        if commit.moved:
            log.info("commit_refused", source=self.name, error=commit.moved.str(), hint="what comes again is known")
        if commit.failed:
            again = {partition: offset for partition, offset in commit.offsets.items() if partition in self._assigned}
            self._offsets.due = again | self._offsets.due
            raise translate(self._bootstrap, commit.failed)

    def _check_topic_ids(self) -> None:
        """Leave the group if a topic was deleted and created again. After rejoining, it is read from its beginning."""
        if changed := self._ids.find_changed():
            log.warning("topic_recreated", source=self.name, topics=sorted(changed), hint="it joins the group again")
            self._leave()

    def _return(self, offsets: Mapping[Partition, Iterable[int]]) -> None:
        """Seek back. If that fails, leave the group: the next member starts at the committed offset, before these records."""
        for partition, first in self._offsets.give_back(offsets).items():
            if self._consumer is None:
                return
            self._unread.add(partition)
            try:
                self._consumer.seek(TopicPartition(*partition, first))
            except KafkaException as error:
                log.warning("seek_failed", source=self.name, error=error.args[0].str(), hint="it joins the group again")
                self._leave()


def _poll_seconds(wait: float, began: float, ready: float | None) -> float:
    left = wait - (time.monotonic() - (began if ready is None else ready))
    return min(max(left, 0.02), _POLL)


def _named(partitions: Iterable[TopicPartition]) -> set[Partition]:
    return {(each.topic, each.partition) for each in partitions}


def _readable(partitions: Iterable[TopicPartition]) -> str:
    return " ".join(f"{topic}/{number}" for topic, number in sorted(_named(partitions))) or "none"
