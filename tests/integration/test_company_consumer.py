import io
import json
import os
import sys
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import boto3
import pytest
from rich.console import Console
from sqlalchemy.orm.exc import StaleDataError
from waiting import until

from tasks.devstack.company.barrier import serve_barriers
from tasks.devstack.company.consumer import BARRIER, ChangeConsumer, format_change
from tasks.devstack.company.store import Change, Company
from tasks.devstack.company.workload import PARTITIONS, Workload
from tasks.devstack.demo.system import CONSUMER_READY
from tasks.devstack.kafka import EmbeddedKafka
from tasks.devstack.processes import Command, Processes
from tasks.devstack.sqs import EmbeddedSqs

TOPIC = "employee-changes"
QUEUE = "employees-failed"


def empty_queue(client: Any, url: str) -> Counter[int]:
    """Receive all messages, and count them by employee."""
    found: Counter[int] = Counter()
    while messages := client.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
        found.update(json.loads(message["Body"])["employeeId"] for message in messages)
        client.delete_message_batch(
            QueueUrl=url,
            Entries=[{"Id": str(n), "ReceiptHandle": message["ReceiptHandle"]} for n, message in enumerate(messages)],
        )
    return found


def produce(workload: Workload, company: Company, kafka: EmbeddedKafka) -> None:
    for planned in workload.generate():
        company.change_facts(planned.change)
        headers = {BARRIER: planned.barrier} if planned.barrier else {}
        kafka.produce(TOPIC, format_change(planned.change), partition=planned.partition, headers=headers)
    kafka.flush()


def test_consumers_conflict_and_send_each_employee_concerned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "any")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "any")
    workload = Workload(messages=60, seed=3)
    company = Company(tmp_path)
    company.create(workload.employees)
    with ExitStack() as stack:
        stack.callback(company.close)
        sqs = stack.enter_context(EmbeddedSqs(tmp_path))
        kafka = stack.enter_context(EmbeddedKafka())
        barrier_port = stack.enter_context(serve_barriers(3))
        client = boto3.client("sqs", endpoint_url=sqs.endpoint, region_name=sqs.region)
        stack.callback(client.close)
        url = client.create_queue(QueueName=QUEUE)["QueueUrl"]
        assert kafka.make(TOPIC) == PARTITIONS
        argv = [sys.executable, "-m", "tasks.devstack.company.consumer", str(tmp_path), "--bootstrap", kafka.bootstrap]
        argv += ["--topic", TOPIC, "--barrier-port", str(barrier_port)]
        argv += ["--sqs", sqs.endpoint, "--region", sqs.region, "--queue", QUEUE]
        commands = [
            Command(name=name, argv=[*argv, "--name", name], env=os.environ, ready_pattern=CONSUMER_READY) for name in "abc"
        ]
        output = io.StringIO()
        with Processes(commands, console=Console(file=output), grace=20) as consumers:
            consumers.wait_until_ready(hint="")
            produce(workload, company, kafka)
            until(lambda: company.count_progress().handled == 60, what="all messages")
        progress = company.count_progress()
        failed = empty_queue(client, url)
        stale = company.find_stale()

        assert output.getvalue().count("ended with exit code 0") == 3
        assert "no other consumer came" not in output.getvalue()
        assert progress.conflicts >= 20  # two of three at each of ten barriers, and perhaps more by chance
        assert progress.dead_letters == failed.total() == 2 * progress.conflicts
        # A failed message changes nothing. Redrive has a dead letter about each stale employee.
        assert stale
        assert set(stale) <= set(failed)
        assert progress.left_stale == progress.stale == len(stale)
        for number in failed:
            company.refresh(number)
        assert company.find_stale() == []


class Message:
    """A Kafka message about two employees."""

    def value(self) -> bytes:
        return format_change(Change(department="Sales", revision=1, employees=(1, 2)))

    def headers(self) -> None:
        return None

    def partition(self) -> int:
        return 0

    def offset(self) -> int:
        return 0


def test_a_message_is_not_recorded_before_its_failure_is_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    company = Company(tmp_path)
    company.create([1, 2])

    def fail_to_send(_: object) -> None:
        raise OSError("SQS is away")

    def conflict(*_: object, **__: object) -> None:
        raise StaleDataError

    monkeypatch.setattr(company, "apply", conflict)
    consumer = ChangeConsumer(company, send=fail_to_send, barrier_port=0)
    with pytest.raises(OSError, match="SQS is away"):
        consumer.handle(Message())
    assert company.count_progress().handled == 0
    company.close()
