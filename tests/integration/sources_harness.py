"""What the conformance suite asks of a transport, and the two that need no broker of their own: memory, and SQS."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, ClassVar, Protocol
from uuid import uuid4

import boto3
from botocore.config import Config
from doubles.memory_source import MemorySource
from doubles.tcp_proxy import TcpProxy

from tasks.adapters.sqs import SqsQueue, SqsSource
from tasks.adapters.sqs import source as sqs_module
from tasks.adapters.sqs.source import _Receipt

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pytest
    from mypy_boto3_sqs import SQSClient

    from tasks.devstack.sqs import EmbeddedSqs
    from tasks.dlq.ports import Record, Source

#: Bodies that are no failure of anybody's, by the reason of their rejection.
POISON = {
    "not-json": b"not json",
    "invalid-parameter": b'{"employeeId": "../admin"}',
    "too-deep": b"[" * 100_000,
    "integer-too-long": b'{"employeeId": ' + b"7" * 5000 + b"}",
    "duplicate-key": b'{"employeeId": 1, "employeeId": 2}',
}
#: What not every transport can carry.
BINARY_POISON = {"not-utf8": b"\xff\xfe\x00\x01", "empty": b""}


class Harness(Protocol):
    """One queue, topic or file of its own, on a real transport."""

    poison: ClassVar[dict[str, bytes]]
    #: The most records of one `receive`.
    batch: int
    #: Whether what was acknowledged never comes again. (A file is read from its beginning.)
    remembers: bool

    def open(self) -> Source:
        """Return the source as another process would open it; what an earlier one was handed is not yet redelivered."""

    def produce(self, bodies: Sequence[bytes]) -> None:
        """Write records; on return they can be received."""

    def expire(self, records: Sequence[Record]) -> None:
        """Let the time be over that the transport gives for these records: they are handed out again."""

    def crash(self, source: Source, records: Sequence[Record]) -> None:
        """End the process of `source`, which was handed `records` and acknowledged none: they are handed out again."""

    def go_down(self) -> None:
        """Have the transport answer nobody."""

    def come_up(self) -> None:
        """Have it answer again, with all that it held."""

    def left(self) -> int:
        """Count the records that are not acknowledged."""

    def close(self) -> None:
        """Let go of everything."""


class Memory:
    """The in-memory source."""

    poison: ClassVar = POISON | BINARY_POISON
    batch = 10
    remembers = True

    def __init__(self) -> None:
        self._source = MemorySource("letters", batch=self.batch)
        self.go_down = self._source.go_down
        self.come_up = self._source.come_up

    def open(self) -> Source:
        return self._source

    def produce(self, bodies: Sequence[bytes]) -> None:
        self._source.put(*bodies)

    def expire(self, records: Sequence[Record]) -> None:
        del records
        self._source.redeliver()

    def crash(self, source: Source, records: Sequence[Record]) -> None:
        del source
        self.expire(records)

    def left(self) -> int:
        return self._source.left

    def close(self) -> None:
        pass


class SqsServer:
    """The embedded SQS, with a client of it, and one behind a proxy that can be cut."""

    def __init__(self, server: EmbeddedSqs) -> None:
        self.proxy = TcpProxy(server.port)
        self.near = client_of(server.port)
        self.far = client_of(self.proxy.port)

    def close(self) -> None:
        self.far.close()
        self.near.close()
        self.proxy.close()


class Sqs:
    """A queue on the embedded SQS."""

    poison: ClassVar = POISON  # SQS takes nothing but characters of XML, and no empty body
    batch = sqs_module.BATCH
    remembers = True
    _suffix = ""
    _attributes: ClassVar[dict[str, str]] = {"VisibilityTimeout": "600"}  # nothing comes again by itself

    def __init__(self, server: SqsServer, patch: pytest.MonkeyPatch) -> None:
        patch.setattr(sqs_module, "GIVEN_BACK", 0)
        self._client, self._far = server.near, server.far
        self._name = f"letters-{uuid4()}{self._suffix}"
        self._url = self._client.create_queue(QueueName=self._name, Attributes=self._attributes)["QueueUrl"]
        self.go_down = server.proxy.cut
        self.come_up = server.proxy.restore

    def open(self) -> Source:
        return SqsSource(SqsQueue(source="letters", queue=self._name), self._far)

    def produce(self, bodies: Sequence[bytes]) -> None:
        entries = [{"Id": str(place), "MessageBody": body.decode(), **self._grouped()} for place, body in enumerate(bodies)]
        for start in range(0, len(entries), 10):
            answer = self._client.send_message_batch(QueueUrl=self._url, Entries=entries[start : start + 10])
            assert not answer.get("Failed")

    def _grouped(self) -> dict[str, str]:
        return {}

    def expire(self, records: Sequence[Record]) -> None:
        for record in records:
            assert isinstance(record.receipt, _Receipt)
            self._client.change_message_visibility(
                QueueUrl=record.receipt.queue_url, ReceiptHandle=record.receipt.handle, VisibilityTimeout=0
            )

    def crash(self, source: Source, records: Sequence[Record]) -> None:
        del source
        self.expire(records)

    def left(self) -> int:
        attributes = self._client.get_queue_attributes(QueueUrl=self._url, AttributeNames=["All"])["Attributes"]
        return sum(int(value) for name, value in attributes.items() if name.startswith("ApproximateNumberOfMessages"))

    def close(self) -> None:
        self.come_up()


class Fifo(Sqs):
    """A FIFO queue: all messages are of one group."""

    _suffix = ".fifo"
    _attributes: ClassVar = {"VisibilityTimeout": "600", "FifoQueue": "true"}

    def _grouped(self) -> dict[str, str]:
        return {"MessageGroupId": "employees", "MessageDeduplicationId": str(uuid4())}


def client_of(port: int) -> SQSClient:
    """Return a client that tells at once when nobody answers."""
    return boto3.client(
        "sqs",
        endpoint_url=f"http://127.0.0.1:{port}",
        region_name="us-east-1",
        aws_access_key_id="local",
        aws_secret_access_key="only-here",
        config=Config(connect_timeout=3, read_timeout=25, retries={"total_max_attempts": 1}),
    )


def employee(number: int) -> bytes:
    return json.dumps({"employeeId": number}).encode()
