"""Kafka for the conformance suite: topics on librdkafka's mock cluster, whose group members join ahead and all at once."""

from __future__ import annotations

import signal
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from itertools import count
from typing import TYPE_CHECKING, ClassVar, Self

from confluent_kafka import Producer
from kafka_world import PARTITIONS, cluster_apart
from sources_harness import BINARY_POISON, POISON
from waiting import TEST_TIMEOUT

from tasks.adapters.kafka import KafkaSource, KafkaTopics, read_lags
from tasks.adapters.kafka import source as source_module
from tasks.devstack.kafka import EmbeddedKafka
from tasks.dlq.errors import OutOfReach

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Sequence

    import pytest

    from tasks.dlq.ports import Record, Source

#: A group takes three seconds to hand out its partitions, and notices after six that a member is gone.
PROPERTIES = {"session.timeout.ms": "6000", "socket.timeout.ms": "1000", "reconnect.backoff.max.ms": "200"}
_numbers = count(1)


class Kafka:
    """One topic and its group; with a `process` of the cluster's own it can be stopped."""

    poison: ClassVar = POISON | BINARY_POISON
    batch = 10
    remembers = True

    def __init__(self, bootstrap: str, process: subprocess.Popen[str] | None = None) -> None:
        self._bootstrap = bootstrap
        self._process = process
        self._topic = f"letters-{next(_numbers)}"
        self._producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 1, "log_level": 2})
        self._producer.list_topics(self._topic, timeout=TEST_TIMEOUT)  # the mock makes it
        self._joined: list[KafkaSource] = []
        self._opened: list[KafkaSource] = []

    @property
    def _topics(self) -> KafkaTopics:
        return KafkaTopics(
            source="letters",
            bootstrap=self._bootstrap,
            topics=[self._topic],
            group=f"{self._topic}-redrive",
            properties=PROPERTIES,
        )

    def join(self) -> Self:
        """Have a member join the group, for the first `open`."""
        source = self._source()
        with suppress(OutOfReach):  # a busy machine: it goes on joining
            source.receive(wait=0)
        self._joined.append(source)
        return self

    def hurry(self, patch: pytest.MonkeyPatch) -> None:
        """Have short batches, and outages noticed at once."""
        patch.setattr(source_module, "BATCH", self.batch)
        if self._process:
            patch.setattr(source_module, "OUTAGE", 1.0)
            patch.setattr(source_module, "PATIENCE", 1.0)

    def _source(self) -> KafkaSource:
        made = KafkaSource(self._topics)
        self._opened.append(made)
        return made

    def open(self) -> Source:
        return self._joined.pop() if self._joined else self._source()

    def produce(self, bodies: Sequence[bytes]) -> None:
        for number, body in enumerate(bodies):
            self._producer.produce(self._topic, body, partition=number % PARTITIONS)
        assert self._producer.flush(10) == 0

    def expire(self, records: Sequence[Record]) -> None:
        """Do nothing: what a member has not committed, it commits later, or the next member reads again."""

    def crash(self, source: Source, records: Sequence[Record]) -> None:
        del records
        assert isinstance(source, KafkaSource)
        source.close()

    def go_down(self) -> None:
        """Stop the cluster; who joined ahead and is not yet opened leaves before, so that the test's own has to join."""
        assert self._process
        while self._joined:
            self._joined.pop().close()
        self._process.send_signal(signal.SIGSTOP)

    def come_up(self) -> None:
        assert self._process
        self._process.send_signal(signal.SIGCONT)

    def left(self) -> int:
        return sum(each.lag for each in read_lags(self._topics))

    def close(self) -> None:
        for each in self._opened:
            each.close()


class Pool:
    """Topics with a member that has joined already: so many waits of three seconds are one."""

    def __init__(self, ready: int, stoppable: int) -> None:
        self._stack = ExitStack()
        cluster = self._stack.enter_context(EmbeddedKafka())
        self._bootstrap = cluster.bootstrap
        apart = [self._stack.enter_context(cluster_apart()) for _ in range(stoppable)]
        made = [*(Kafka(self._bootstrap) for _ in range(ready)), *(Kafka(*each) for each in apart)]
        with ThreadPoolExecutor(max(len(made), 1)) as threads:
            joined = list(threads.map(Kafka.join, made))
        self._ready, self._stoppable = joined[:ready], joined[ready:]

    def take(self, *, stoppable: bool) -> Kafka:
        """Return one that nobody has used."""
        return (self._stoppable if stoppable else self._ready).pop()

    def close(self) -> None:
        self._stack.close()
