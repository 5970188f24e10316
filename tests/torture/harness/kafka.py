"""Kafka under torture: a mock cluster in a process of its own, a proxy that speaks its frames, and a sender.

Requests and answers are length-prefixed (https://kafka.apache.org/protocol#protocol_common). A broker tells its clients where it
is; the proxy puts its own port there, so that they come back to it.
"""

from __future__ import annotations

import struct
import sys
from signal import SIGCONT, Signals
from typing import TYPE_CHECKING, Any

from confluent_kafka import Producer

from harness.proxy import Tube
from harness.sender import Message, Sender
from harness.settings import GROUP, KAFKA, TOPIC
from harness.timetable import Dice
from tasks.adapters.kafka import KafkaTopics, read_lags
from tasks.devstack import child
from tasks.dlq.errors import OutOfReach

if TYPE_CHECKING:
    import asyncio
    import subprocess
    from collections import Counter
    from collections.abc import Sequence
    from pathlib import Path

    from harness.log import Log

#: In a hundred requests or answers.
ODDS = {"kafka_cut_before": 0.2, "kafka_cut_before_answer": 0.3, "kafka_cut_in_answer": 0.2, "kafka_delayed": 50.0}
_HOST = b"127.0.0.1"
_SIZE = 4
_SERVER = """
import sys
from tasks.devstack.kafka import EmbeddedKafka
with EmbeddedKafka() as kafka:
    kafka.make(sys.argv[1])
    print(kafka.bootstrap, flush=True)
    import threading
    threading.Event().wait()
"""


class Cluster:
    """One broker, with the topic made. It keeps what it has while it lives."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.port = 0
        self.process: subprocess.Popen[bytes]

    def start(self) -> None:
        """Start it. Raises OutOfReach."""
        env = {"PYTHONPATH": ":".join(part for part in sys.path if part), "TMPDIR": str(self._folder)}
        where = self._folder / "kafka.where"
        with where.open("wb") as said:
            self.process = child.spawn([sys.executable, "-c", _SERVER, TOPIC], env=env, output=said, cwd=self._folder)

    def is_up(self) -> bool:
        if self.process.poll() is not None:
            raise OutOfReach("the Kafka cluster has ended at its start", hint="kafka.where says why")
        said = (self._folder / "kafka.where").read_text().strip().splitlines()
        if said and ":" in said[-1]:
            self.port = int(said[-1].rpartition(":")[2])
        return bool(self.port)

    def send(self, number: Signals) -> None:
        self.process.send_signal(number)

    def stop(self) -> None:
        self.send(SIGCONT)
        child.stop([self.process], grace=0)

    def unread(self) -> int:
        """Count the messages that the group has not committed."""
        each = read_lags(KafkaTopics(source=KAFKA, bootstrap=f"127.0.0.1:{self.port}", topics=[TOPIC], group=GROUP))
        return sum(partition.lag for partition in each)


class KafkaWire(Tube):
    """The proxy before the broker."""

    def __init__(self, seed: int, counts: Counter[str]) -> None:
        super().__init__("kafka", Dice(seed, "kafka-wire", ODDS), counts)

    async def read(self, reader: asyncio.StreamReader) -> bytes:
        size = await reader.readexactly(_SIZE)
        return size + await reader.readexactly(*struct.unpack(">i", size))

    def translated(self, data: bytes) -> bytes:
        """Return an answer in which the broker is where the proxy is. Ports have four bytes, in all versions."""
        return data.replace(_HOST + struct.pack(">i", self.upstream), _HOST + struct.pack(">i", self.port))


class KafkaSender(Sender):
    """Writes to the topic, past the proxy. A message's identity is where it stands: TOPIC/PARTITION/OFFSET."""

    def __init__(self, log: Log, *, port: int, **rest: Any) -> None:
        super().__init__(log, **rest)
        once = {"retries": 0, "request.timeout.ms": 4000, "message.timeout.ms": 8000}  # what fails is told, and sent by us
        self._producer = Producer({"bootstrap.servers": f"127.0.0.1:{port}", "linger.ms": 1, "log_level": 2, **once})

    def close(self) -> None:
        self._producer.purge()

    def send(self, batch: Sequence[Message]) -> Sequence[Message]:
        left = {message.number: message for message in batch}

        def note(number: int, error: Any, written: Any) -> None:
            if error is None:
                self.confirm(f"{written.topic()}/{written.partition()}/{written.offset()}", left.pop(number))

        for message in batch:
            told = lambda error, written, number=message.number: note(number, error, written)  # noqa: E731
            self._producer.produce(TOPIC, message.body().encode(), partition=message.number % 4, on_delivery=told)
        self._producer.flush(10)
        self._producer.purge()  # nothing is told of a message that is sent again
        self._producer.flush(1)
        self.unsure(list(left.values()))
        return list(left.values())
