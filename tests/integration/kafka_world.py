"""A topic in librdkafka's mock cluster, a ledger, and Redrive between them: what the tests of Kafka stand on."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from confluent_kafka import Consumer, Producer, TopicPartition
from sqlalchemy import select
from waiting import until

from tasks.adapters.kafka import KafkaSource, KafkaTopics, Lag, read_lags
from tasks.dlq.ledger.audit import Audit, audit
from tasks.dlq.ledger.schema import dead_letters
from tasks.runtime import Runtime
from tasks.settings import assemble

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tasks.dlq.ledger.dead_letters import Recorded
    from tasks.dlq.reading.reader import Reader

PARTITIONS = 4
#: Of the record that follows a seek, a rejoin, …: no test waits for it when all is well.
PATIENCE = 20.0
CONFIG = """
[ledger]
url = "sqlite:///{folder}/ledger.db"
[routes.employees]
url = "http://127.0.0.1:1/employees/{{employeeId}}"
params.employeeId = "positive-int"
[sources.dlt]
kind = "kafka"
bootstrap = "{bootstrap}"
topics = ["{topic}"]
group = "{topic}-redrive"
route = "employees"
map.employeeId = "employeeId"
properties = {{ session_timeout_ms = 6000, topic_metadata_refresh_interval_ms = 500 }}
"""
_numbers = count(1)


class Silent:
    """Sends no wake-ups."""

    def send(self, job_id: int, *, delay: float) -> None:
        """Do nothing."""


class World:
    """One topic of its own, and a ledger."""

    def __init__(self, bootstrap: str, folder: Path, topic: str = "") -> None:
        self.bootstrap = bootstrap
        self.topic = topic or f"employees-{next(_numbers)}-dlt"
        self.group = f"{self.topic}-redrive"
        self.file = folder / "redrive.toml"
        self.file.write_text(CONFIG.format(folder=folder, bootstrap=bootstrap, topic=self.topic))
        self.written: list[int] = []
        self._runtimes: list[Runtime] = []
        self._sources: list[KafkaSource] = []
        self._producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 5})

    def write(self, value: bytes | None, *, partition: int = 0, key: bytes | None = None, headers: Any = None) -> None:
        self._producer.produce(self.topic, value, key=key, partition=partition, headers=headers)

    def write_employees(self, number: int) -> None:
        """Write so many good letters, over all partitions."""
        for each in range(number):
            self.write(employee(each + 1), partition=each % PARTITIONS)
        self.flush()

    def flush(self) -> None:
        assert self._producer.flush(10) == 0

    def runtime(self) -> Runtime:
        """Return another process's runtime."""
        made = Runtime(assemble(tomllib.loads(self.file.read_text()), {}, file=str(self.file)), Silent())
        made.ensure_ledger()
        self._runtimes.append(made)
        return made

    def member(self, runtime: Runtime | None = None) -> Member:
        """Return another member of the group."""
        made = Member(runtime or self.runtime())
        self._sources.append(made.source)
        return made

    def audit(self) -> Audit:
        with self._runtimes[0].ledger.begin(read_only=True) as tx:
            return audit(tx)

    def letters(self) -> list[dict[str, Any]]:
        with self._runtimes[0].ledger.begin(read_only=True) as tx:
            rows = tx.connection.execute(select(dead_letters).order_by(dead_letters.c.stream, dead_letters.c.id)).mappings()
            return [{**row, "origin": json.loads(row["origin"])} for row in rows]

    @property
    def topics(self) -> KafkaTopics:
        return KafkaTopics(source="dlt", bootstrap=self.bootstrap, topics=[self.topic], group=self.group)

    def lags(self) -> list[Lag]:
        return read_lags(self.topics)

    def committed(self) -> dict[int, int | None]:
        return {each.partition: each.committed for each in self.lags()}

    def rewind(self, offsets: Mapping[int, int]) -> None:
        """Set the group's offsets, as `kafka-consumer-groups --reset-offsets` does. The mock lets only members do that."""
        consumer = Consumer(
            {"bootstrap.servers": self.bootstrap, "group.id": self.group, "enable.auto.commit": False, "session.timeout.ms": 6000}
        )
        consumer.subscribe([self.topic])
        until(lambda: consumer.poll(0.1) is None and consumer.assignment(), what="the assignment")
        wanted = [TopicPartition(self.topic, partition, offset) for partition, offset in offsets.items()]
        consumer.commit(offsets=wanted, asynchronous=False)
        consumer.close()

    def close(self) -> None:
        for source in self._sources:
            source.close()
        for runtime in self._runtimes:
            runtime.close()


class Member:
    """A member of the group, with its own way to the ledger."""

    def __init__(self, runtime: Runtime) -> None:
        self.intake = runtime.intake
        self.source, self.reader = _kafka(runtime)

    def drain(self, *, wait: float = 0.0, seconds: float = float("inf")) -> Recorded:
        return self.intake.drain(self.source, self.reader, seconds=seconds, wait=wait)

    def keep(self, records: Any) -> Recorded:
        """Write records into the ledger, as intake does before it acknowledges."""
        return self.intake.take("dlt", self.reader, records)


def _kafka(runtime: Runtime) -> tuple[KafkaSource, Reader]:
    (source,) = (source for source, _ in runtime.sources if source.name == "dlt")
    assert isinstance(source, KafkaSource)
    return source, runtime.readers["dlt"]


def employee(number: int) -> bytes:
    return json.dumps({"employeeId": number}).encode()


CLUSTER = """
import sys
from tasks.devstack.kafka import EmbeddedKafka
with EmbeddedKafka() as kafka:
    print(kafka.bootstrap, flush=True)
    sys.stdin.read()
"""


@contextmanager
def cluster_apart() -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Yield the bootstrap and process of a cluster that can be stopped and go on (SIGSTOP, SIGCONT)."""
    command = [sys.executable, "-c", CLUSTER]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2]
    ) as process:
        assert process.stdout
        try:
            yield process.stdout.readline().strip(), process
        finally:
            process.kill()
