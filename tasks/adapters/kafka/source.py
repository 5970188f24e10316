"""Kafka topics as a source: read in a consumer group, committed after the ledger's commit, offset by offset.

A partition's committed offset never passes one that is not settled; what was handed out and neither acknowledged nor given
back is given back by the next `receive`.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import structlog
from confluent_kafka import KafkaError, KafkaException, TopicPartition

from tasks.adapters.kafka.client import check, configuration, is_cooperative, open_consumer, talking_to, unavailable
from tasks.adapters.kafka.commit import Commit
from tasks.adapters.kafka.dialects import DIALECTS, custom
from tasks.adapters.kafka.offsets import Offsets, by_partition, partition_of
from tasks.adapters.kafka.origin import Recogniser
from tasks.adapters.kafka.records import record_of
from tasks.adapters.kafka.topic_ids import TopicIds
from tasks.dlq.errors import BrokerUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from confluent_kafka import Consumer, Message

    from tasks.adapters.kafka.offsets import Partition
    from tasks.dlq.ports import Record

log = structlog.get_logger("redrive.kafka")

#: Messages in a batch: one transaction of the ledger.
BATCH = 1000
#: Seconds for a group to hand out its partitions, and for a broker to tell the end of each.
PATIENCE = 30.0
#: Seconds for a broker that librdkafka cannot reach to come back, before that is told.
OUTAGE = 5.0
#: Seconds between two looks at whether to end.
_GLANCE = 0.5


class KafkaSource:
    """Some topics, read by one member of a consumer group. Connects with the first `receive`; is not shared over a fork.

    Args:
        name: the source's name in redrive.toml.
        bootstrap: "host:port,…".
        topics: the dead-letter topics.
        group: the consumer group.
        properties: librdkafka's, secrets included.
        headers: header names by role (see `dialects.ROLES`) where the writer's were changed.

    Raises:
        ConfigError: librdkafka does not take the properties.
    """

    def __init__(
        self,
        name: str,
        *,
        bootstrap: str,
        topics: Sequence[str],
        group: str = "redrive",
        properties: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self._name = name
        self._bootstrap = bootstrap
        self._topics = list(topics)
        self._config = configuration(bootstrap, group, properties or {})
        check(name, self._config)
        self._recogniser = Recogniser((custom(headers), *DIALECTS) if headers else DIALECTS)
        self._lock = threading.Lock()  # librdkafka's consumer must not be closed while it is read
        self._closing = False
        self._consumer: Consumer | None = None
        self._forget()

    @property
    def name(self) -> str:
        """The source's name in redrive.toml."""
        return self._name

    def receive(self, *, wait: float) -> Sequence[Record]:
        """Return up to 1000 records; none only when each of this member's partitions has been read to its end.

        The `wait` for a first record begins when the group has handed out the partitions: joining takes seconds.

        Raises:
            BrokerUnavailable: Kafka does not answer or refuses, there is no such topic, or no partition was handed out in time.
        """
        with self._lock:
            self._return(self._offsets.out)
            self._look_for_new_topics()
            consumer = self._consumer or self._join()
            self._commit()
            first = self._first(consumer, wait)
            if first is None:
                return []
            with talking_to(self._bootstrap):
                messages = [first, *consumer.consume(BATCH - 1, timeout=0.0)]
            records = [record_of(message, self._recogniser) for message in messages if self._is_record(message)]
            records = [each for each in records if partition_of(each) in self._assigned]  # else another member has it now
            self._offsets.hand_out(records)
            return records

    def acknowledge(self, records: Sequence[Record]) -> None:
        """Commit the offsets behind these records, as far as all before them are settled, too.

        A partition that has gone to another member is left to it: what comes again there is known by its identity.

        Raises:
            BrokerUnavailable: Kafka does not answer; the commit is made up for.
        """
        with self._lock:
            for partition in self._offsets.settle(records):
                log.info("the partition has moved on; what comes again is known", source=self._name, partition=partition)
            self._look_for_new_topics()
            self._commit()

    def give_back(self, records: Sequence[Record]) -> None:
        """Go back, in each partition, to the first of these records."""
        with self._lock:
            self._return(by_partition(records))

    def close(self) -> None:
        """Leave the group, so that its other members take over at once; waits for a `receive` to end. Can be used again."""
        self._closing = True
        with self._lock:
            self._leave()
            self._closing = False

    # --- the group ------------------------------------------------------------------------------------------------

    def _forget(self) -> None:
        self._joined = False
        self._trouble: KafkaError | None = None
        self._missing: set[str] = set()
        self._assigned: set[Partition] = set()
        self._unread: set[Partition] = set()  # not read to the end
        self._offsets = Offsets()
        self._committing: Commit | None = None
        self._ids = TopicIds(self._config)

    def _join(self) -> Consumer:
        self._consumer = open_consumer(self._name, self._config, self._on_error)
        with talking_to(self._bootstrap):
            self._consumer.subscribe(self._topics, on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_revoke)
        return self._consumer

    def _leave(self) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer and (self._committing is None or self._committing.ended(within=OUTAGE)):
            consumer.close()  # else it is still at work, and the group notices after the session's timeout
        self._forget()

    def _on_assign(self, consumer: Consumer, partitions: list[TopicPartition]) -> None:
        if starts := self._ids.starts(consumer, partitions, within=OUTAGE):
            assign_anew = consumer.incremental_assign if is_cooperative(self._config) else consumer.assign
            assign_anew(starts)
            log.warning("a topic was made anew since the last commit: reads it from its beginning", source=self._name)
        self._joined, self._trouble = True, None
        self._assigned |= _named(partitions)
        self._unread |= _named(partitions)
        self._missing -= {each.topic for each in partitions}
        log.info("was given partitions", source=self._name, partitions=_readable(partitions))

    def _on_revoke(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        gone = _named(partitions)
        self._assigned -= gone
        self._unread -= gone
        self._joined = bool(self._assigned)
        self._offsets.forget(gone)
        log.info("gave up partitions", source=self._name, partitions=_readable(partitions))

    def _on_error(self, error: KafkaError) -> None:
        self._trouble = error

    # --- reading --------------------------------------------------------------------------------------------------

    def _first(self, consumer: Consumer, wait: float) -> Message | None:
        """Wait for a record, for the end of all partitions and `wait` seconds after that, or for trouble."""
        began = time.monotonic()
        ready: float | None = None  # when everything had been read
        while not self._closing:
            message = consumer.poll(_glance(wait, began, ready))
            if message is not None and self._is_record(message):
                return message
            now = time.monotonic()
            if not self._joined or self._unread:
                ready = None
                if now - began > (OUTAGE if self._trouble or self._missing.issuperset(self._topics) else PATIENCE):
                    raise self._reason()
            elif ready is None:
                ready = now
            if ready is not None and now - ready >= wait:
                if self._trouble:
                    self._ask(consumer)
                return None
        return None

    def _is_record(self, message: Message) -> bool:
        """Tell a record from librdkafka's other news, and take note of those."""
        partition = (message.topic() or "", message.partition() or 0)
        error = message.error()
        if error is None:
            self._unread.add(partition)
            self._trouble = None
            return True
        if error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001
            self._unread.discard(partition)
            self._trouble = None
        elif error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
            self._missing.add(partition[0])
            log.warning("there is no such topic; it is read as soon as it is there", source=self._name, topic=partition[0])
        elif error.code() == KafkaError._MAX_POLL_EXCEEDED:  # noqa: SLF001
            log.warning("was away for too long; the group goes on without this member until it is back", source=self._name)
        else:
            self._trouble = error
            if error.fatal():
                self._leave()
                raise unavailable(self._bootstrap, error)
        return False

    def _ask(self, consumer: Consumer) -> None:
        """See whether the trouble is over: when nothing comes, nothing else would tell."""
        with talking_to(self._bootstrap):
            consumer.list_topics(self._topics[0], timeout=OUTAGE)
        self._trouble = None

    def _reason(self) -> BrokerUnavailable:
        if self._trouble:
            return unavailable(self._bootstrap, self._trouble)
        if self._missing and not self._assigned:
            topics = ", ".join(sorted(self._missing))
            return BrokerUnavailable(f"Kafka at {self._bootstrap} has no topic {topics}", hint="create it, or correct `topics`")
        if not self._joined:
            hint = "the group is still rebalancing: another member may be slow, or just have died"
            return BrokerUnavailable(f"Kafka at {self._bootstrap} has handed out no partitions yet", hint=hint)
        silent = ", ".join(f"{topic}/{number}" for topic, number in sorted(self._unread)[:5])
        return BrokerUnavailable(f"Kafka at {self._bootstrap} delivers nothing of {silent}", hint="check the partition's leader")

    # --- offsets --------------------------------------------------------------------------------------------------

    def _commit(self) -> None:
        """Commit what is due, after the commit before."""
        self._end_commit()
        if self._offsets.due and self._consumer is not None:
            self._committing, self._offsets.due = Commit(self._consumer, self._offsets.due, self._ids.label), {}
            self._end_commit()

    def _end_commit(self) -> None:
        commit = self._committing
        if commit is None:
            return
        if not commit.ended(within=OUTAGE):
            hint = "check the brokers; the commit goes on as soon as they answer"
            raise BrokerUnavailable(f"Kafka at {self._bootstrap} does not answer a commit", hint=hint)
        self._committing = None
        if commit.moved:
            said = commit.moved.str()
            log.info("the group has moved on without a commit; what comes again is known", source=self._name, said=said)
        if commit.failed:
            again = {partition: offset for partition, offset in commit.offsets.items() if partition in self._assigned}
            self._offsets.due = again | self._offsets.due
            raise unavailable(self._bootstrap, commit.failed)

    def _look_for_new_topics(self) -> None:
        """Leave when a topic was deleted and made anew: the group hands it out again, to be read from its beginning."""
        if changed := self._ids.changed():
            log.warning("the topic was deleted and made anew; joins the group anew", source=self._name, topics=sorted(changed))
            self._leave()

    def _return(self, offsets: Mapping[Partition, Iterable[int]]) -> None:
        """Seek back. Where that fails, leave: whoever reads on starts at the committed offset, before all of them."""
        for partition, first in self._offsets.give_back(offsets).items():
            if self._consumer is None:
                return
            self._unread.add(partition)
            try:
                self._consumer.seek(TopicPartition(*partition, first))
            except KafkaException as error:
                log.warning("cannot go back; joins the group anew", source=self._name, said=error.args[0].str())
                self._leave()


def _glance(wait: float, began: float, ready: float | None) -> float:
    left = wait - (time.monotonic() - (began if ready is None else ready))
    return min(max(left, 0.02), _GLANCE)


def _named(partitions: Iterable[TopicPartition]) -> set[Partition]:
    return {(each.topic, each.partition) for each in partitions}


def _readable(partitions: Iterable[TopicPartition]) -> str:
    return " ".join(f"{topic}/{number}" for topic, number in sorted(_named(partitions))) or "none"
