"""One instance of the company's Kafka consumer, as any service might be written: update, commit, go on.

What fails for good here, an optimistic-lock conflict, is put on the SQS queue as plain JSON, one message for each employee, and
left to Redrive. Run it with `python -m tasks.devstack.company.consumer`.
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

from tasks.devstack.company.rendezvous import meet
from tasks.devstack.company.store import Change, Company

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from confluent_kafka import Message, TopicPartition
    from mypy_boto3_sqs.type_defs import SendMessageBatchRequestEntryTypeDef

log = logging.getLogger("consumer")

#: The message header that names a meeting; absent in most messages.
MEETING = "meeting"
SQS_BATCH = 10
#: Seconds that an instance waits for the others to be there.
OPENING = 60.0
#: How a line begins that tells which partitions this instance has from now on, as a JSON array.
ASSIGNED = "partitions"
#: The partition has been given to another member, or is about to be: what was handled comes again there.
MOVED = {KafkaError.REBALANCE_IN_PROGRESS, KafkaError.ILLEGAL_GENERATION, KafkaError.UNKNOWN_MEMBER_ID}


class ChangeConsumer:
    """Applies changes to employees, and hands over what it could not apply."""

    def __init__(self, company: Company, *, name: str, send: Callable[[Sequence[int]], None], rendezvous: int) -> None:
        """`send` puts employees on the queue for recovery, and returns when they are there."""
        self._company = company
        self._name = name
        self._send = send
        self._rendezvous = rendezvous

    def handle(self, message: Message) -> None:
        """Deal with one message. It may come again: after a crash, or when a rebalance gave its partition away."""
        change = read(message.value() or b"")
        meeting = dict(message.headers() or {}).get(MEETING)
        failed: Change | None = None
        try:
            self._company.apply(change, meet=lambda: self._meet(meeting))
        except StaleDataError:
            failed = change
            self._send(failed.employees)
        self._company.record(message.partition() or 0, message.offset() or 0, consumer=self._name, failed=failed)

    def _meet(self, meeting: bytes | str | None) -> None:
        if meeting and not meet(self._rendezvous, meeting.decode() if isinstance(meeting, bytes) else meeting):
            log.warning("nobody else came to meeting %r", meeting)


def read(body: bytes) -> Change:
    """Return the change that a message's JSON holds: {"change": {"department": …, "revision": …}, "employees": [1, 2]}."""
    document = json.loads(body)
    return Change(**document["change"], employees=tuple(document["employees"]))


def written(change: Change) -> bytes:
    """Return the message for a change."""
    document = {"change": {"department": change.department, "revision": change.revision}, "employees": change.employees}
    return json.dumps(document).encode()


def recovery_queue(endpoint: str | None, region: str, queue: str) -> Callable[[Sequence[int]], None]:
    """Return what sends {"employeeId": n} for each employee, raising when SQS did not take one of them."""
    client = boto3.client("sqs", endpoint_url=endpoint, region_name=region)
    url = client.get_queue_url(QueueName=queue)["QueueUrl"]

    def send(employees: Sequence[int]) -> None:
        for start in range(0, len(employees), SQS_BATCH):
            entries: list[SendMessageBatchRequestEntryTypeDef] = [
                {"Id": str(number), "MessageBody": json.dumps({"employeeId": number})}
                for number in employees[start : start + SQS_BATCH]
            ]
            answer = client.send_message_batch(QueueUrl=url, Entries=entries)
            if answer.get("Failed"):
                raise OSError(f"SQS did not take {answer['Failed']}")

    return send


def consume(consumer: Consumer, topic: str, handle: Callable[[Message], None], *, stopping: Callable[[], bool]) -> None:
    """Handle messages one at a time, each committed after it was dealt with."""

    def assigned(_: Consumer, partitions: list[TopicPartition]) -> None:
        log.info("%s %s", ASSIGNED, json.dumps([partition.partition for partition in partitions]))

    consumer.subscribe([topic], on_assign=assigned)
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
            if error.args[0].code() not in MOVED:
                raise
            log.warning("the message will come again: %s", error)


def main() -> None:
    """Consume until SIGTERM."""
    parser = argparse.ArgumentParser(prog="company-consumer", description="One instance of the sample company's consumer.")
    parser.add_argument("directory", type=Path, help="where the company keeps its databases")
    parser.add_argument("--name", required=True)
    parser.add_argument("--bootstrap", required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--rendezvous", type=int, required=True, help="the meeting place's port")
    parser.add_argument("--sqs", required=True, help="the endpoint's URL")
    parser.add_argument("--region", required=True)
    parser.add_argument("--queue", required=True)
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("botocore").setLevel(logging.WARNING)
    stop: list[int] = []
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda received, _: stop.append(received))
    company = Company(options.directory)
    send = recovery_queue(options.sqs, options.region, options.queue)
    handler = ChangeConsumer(company, name=options.name, send=send, rendezvous=options.rendezvous)
    consumer = Consumer(
        {
            "bootstrap.servers": options.bootstrap,
            "client.id": options.name,
            "group.id": "employee-service",
            "auto.offset.reset": "earliest",
            "enable.auto.commit": False,
            "partition.assignment.strategy": "range",  # the parties of a meeting are in three hands (see story.py)
            "session.timeout.ms": 4000,  # more than the mock cluster's first rebalance (3 s), and less than people's patience
            "heartbeat.interval.ms": 500,
        }
    )
    # All instances join the group at once: each that came later would cost the group one more rebalance of some seconds.
    meet(options.rendezvous, "opening", patience=OPENING)
    try:
        consume(consumer, options.topic, handler.handle, stopping=lambda: bool(stop))
    finally:
        consumer.close()
        company.close()


if __name__ == "__main__":
    main()
