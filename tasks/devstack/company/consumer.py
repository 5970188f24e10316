"""One instance of the sample company's Kafka consumer. It applies a change, commits the offset, and goes on.

It does not retry an optimistic-lock conflict. It sends one plain JSON message for each employee concerned to the SQS queue that
Redrive reads. Run it with `python -m tasks.devstack.company.consumer`.
"""

from __future__ import annotations

import argparse
import json
import logging
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import boto3
from confluent_kafka import Consumer, KafkaError, KafkaException
from sqlalchemy.orm.exc import StaleDataError

from tasks.devstack.company.barrier import wait_at_barrier
from tasks.devstack.company.store import Change, Company

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from confluent_kafka import Message, TopicPartition

log = logging.getLogger("consumer")

#: The message header with the name of a barrier. Most messages have none.
BARRIER = "barrier"
#: The log line of an instance that has partitions begins with this.
READY_TEXT = "consuming partitions"
#: Seconds that a consumer waits at a barrier between reading and writing.
BARRIER_TIMEOUT = 10.0
#: Seconds that an instance waits for the others at its start.
START_TIMEOUT = 60.0
#: Errors of a commit for a partition that another consumer has now, or will have soon. The message will come again there.
_REBALANCED = {KafkaError.REBALANCE_IN_PROGRESS, KafkaError.ILLEGAL_GENERATION, KafkaError.UNKNOWN_MEMBER_ID}


class ChangeConsumer:
    """Applies changes to employees. Sends the employees of a change that has a conflict to the recovery queue."""

    def __init__(self, company: Company, *, send: Callable[[Sequence[int]], None], barrier_port: int) -> None:
        """`send` returns when the employees are on the recovery queue."""
        self._company = company
        self._send = send
        self._barrier_port = barrier_port

    def handle(self, message: Message) -> None:
        """Handle one message. It may come again, after a crash or a rebalance."""
        change = parse_change(message.value() or b"")
        barrier = dict(message.headers() or {}).get(BARRIER)
        failed: Change | None = None
        try:
            self._company.apply(change, before_write=lambda: self._wait_at(barrier))
        except StaleDataError:
            failed = change
            self._send(failed.employees)
        self._company.record(message.partition() or 0, message.offset() or 0, failed=failed)

    def _wait_at(self, barrier: bytes | str | None) -> None:
        if not barrier:
            return
        name = barrier.decode() if isinstance(barrier, bytes) else barrier
        if not wait_at_barrier(self._barrier_port, name, timeout=BARRIER_TIMEOUT):
            log.warning("no other consumer came to %s", name)


def parse_change(body: bytes) -> Change:
    """Return the change in a message: {"change": {"department": …, "revision": …}, "employees": [1, 2]}."""
    document = json.loads(body)
    return Change(**document["change"], employees=tuple(document["employees"]))


def format_change(change: Change) -> bytes:
    """Return the message for a change."""
    document = {"change": {"department": change.department, "revision": change.revision}, "employees": change.employees}
    return json.dumps(document).encode()


def make_sender(endpoint: str | None, region: str, queue: str) -> Callable[[Sequence[int]], None]:
    """Return a function that sends {"employeeId": n} for each employee."""
    client = boto3.client("sqs", endpoint_url=endpoint, region_name=region)
    url = client.get_queue_url(QueueName=queue)["QueueUrl"]

    def send(employees: Sequence[int]) -> None:
        for number in employees:
            client.send_message(QueueUrl=url, MessageBody=json.dumps({"employeeId": number}))

    return send


def consume(consumer: Consumer, topic: str, handle: Callable[[Message], None], *, stopping: Callable[[], bool]) -> None:
    """Handle messages one at a time until `stopping` returns true. Commit each offset after its message was handled."""

    def log_partitions(_: Consumer, partitions: list[TopicPartition]) -> None:
        if partitions:
            log.info("%s %s", READY_TEXT, [partition.partition for partition in partitions])

    consumer.subscribe([topic], on_assign=log_partitions)
    while not stopping():
        message = consumer.poll(0.2)
        if message is None:
            continue
        if message.error():
            log.warning("Kafka: %s", message.error())
            continue
        handle(message)
        try:
            consumer.commit(message=message, asynchronous=False)
        except KafkaException as error:
            if error.args[0].code() not in _REBALANCED:
                raise
            log.warning("the message will come again: %s", error)


def main() -> None:
    """Consume until SIGTERM."""
    parser = argparse.ArgumentParser(prog="company-consumer", description="One instance of the sample company's consumer.")
    parser.add_argument("directory", type=Path, help="the directory of the company's databases")
    parser.add_argument("--name", required=True)
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--barrier-port", type=int, required=True)
    parser.add_argument("--sqs", required=True, help="the endpoint's URL")
    parser.add_argument("--region", required=True)
    parser.add_argument("--queue", required=True)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("botocore").setLevel(logging.WARNING)
    signals: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda received, _: signals.append(received))
    company = Company(options.directory)
    send = make_sender(options.sqs, options.region, options.queue)
    handler = ChangeConsumer(company, send=send, barrier_port=options.barrier_port)
    consumer = Consumer(
        {
            "bootstrap.servers": options.bootstrap,
            "client.id": options.name,
            "group.id": "employee-service",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "partition.assignment.strategy": "range",  # see CONFLICT_PARTITIONS in workload.py
            "session.timeout.ms": 10_000,  # longer than the first rebalance of the mock cluster, which takes 3 s
            "heartbeat.interval.ms": 500,
        }
    )
    # All instances join the group at once. Each one that joins later costs a rebalance of some seconds.
    wait_at_barrier(options.barrier_port, "start", timeout=START_TIMEOUT)
    try:
        consume(consumer, options.topic, handler.handle, stopping=lambda: bool(signals))
    finally:
        consumer.close()
        company.close()


if __name__ == "__main__":
    main()
