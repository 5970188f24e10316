import json
import os
import sys
import threading
import time
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import boto3
import pytest
from sqlalchemy.orm.exc import StaleDataError

from tasks.devstack import child
from tasks.devstack.company.consumer import MEETING, ChangeConsumer, written
from tasks.devstack.company.rendezvous import Rendezvous, meet
from tasks.devstack.company.store import Change, Company
from tasks.devstack.company.story import PARTITIONS, Story
from tasks.devstack.kafka import EmbeddedKafka
from tasks.devstack.sqs import EmbeddedSqs

TOPIC = "employee-changes"
QUEUE = "employees-failed"


def until(true: Any, what: str, seconds: float = 60) -> None:
    patience = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < patience, f"never: {what}"
        time.sleep(0.05)


def received(client: Any, url: str) -> Counter[int]:
    """Empty the queue and count the employees in it."""
    found: Counter[int] = Counter()
    while messages := client.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages"):
        found.update(json.loads(message["Body"])["employeeId"] for message in messages)
        client.delete_message_batch(
            QueueUrl=url,
            Entries=[{"Id": str(n), "ReceiptHandle": message["ReceiptHandle"]} for n, message in enumerate(messages)],
        )
    return found


def test_three_consumers_conflict_for_real_and_hand_over_everyone_concerned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "any")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "any")
    story = Story(messages=60, seed=3)
    company = Company(tmp_path)
    company.found(story.employees)
    with ExitStack() as stack:
        stack.callback(company.close)
        sqs = stack.enter_context(EmbeddedSqs(tmp_path))
        kafka = stack.enter_context(EmbeddedKafka())
        rendezvous = stack.enter_context(Rendezvous(3))
        client = boto3.client("sqs", endpoint_url=sqs.endpoint, region_name=sqs.region)
        stack.callback(client.close)
        url = client.create_queue(QueueName=QUEUE)["QueueUrl"]
        assert kafka.make(TOPIC) == PARTITIONS
        command = [sys.executable, "-m", "tasks.devstack.company.consumer", str(tmp_path), "--bootstrap", kafka.bootstrap]
        command += ["--topic", TOPIC, "--rendezvous", str(rendezvous.port)]
        command += ["--sqs", sqs.endpoint, "--region", sqs.region, "--queue", QUEUE]
        logs = [stack.enter_context((tmp_path / f"consumer-{name}.log").open("wb")) for name in "abc"]
        consumers = [
            child.spawn([*command, "--name", name], env=os.environ, output=log) for name, log in zip("abc", logs, strict=True)
        ]
        stack.callback(child.stop, consumers, grace=20)
        said = lambda: [Path(log.name).read_text() for log in logs]  # noqa: E731
        until(lambda: all("partitions [" in text for text in said()), "each has partitions")
        for event in story.events():
            company.learn(event.change)
            headers = {MEETING: event.meeting} if event.meeting else {}
            kafka.produce(TOPIC, written(event.change), partition=event.partition, headers=headers)
        kafka.flush()
        until(lambda: company.progress().handled == 60, "all messages are dealt with")
        child.stop(consumers, grace=20)
        progress = company.progress()
        failed = received(client, url)

    assert [consumer.returncode for consumer in consumers] == [0, 0, 0]
    assert not any("nobody else came" in text for text in said())
    assert progress.conflicts >= 20  # two of three in each of ten meetings; more where luck adds to it
    assert progress.dead_letters == failed.total() == 2 * progress.conflicts
    # A failed message changed nothing. What is stale now, Redrive knows of.
    assert company.stale()
    assert set(company.stale()) <= set(failed)
    assert progress.left_stale == progress.stale == len(company.stale())
    for number in failed:
        company.refresh(number)
    assert company.stale() == []
    company.close()


def test_a_meeting_goes_on_together_or_after_a_while_alone():
    with Rendezvous(2) as rendezvous:
        answers: list[bool] = []
        threads = [threading.Thread(target=lambda: answers.append(meet(rendezvous.port, "first"))) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert answers == [True, True]
        assert meet(rendezvous.port, "second", patience=0.1) is False
        assert meet(rendezvous.port, "second") is False  # too late: the other has gone on


def test_a_message_that_could_not_be_handed_over_is_not_recorded(tmp_path: Path):
    company = Company(tmp_path)
    company.found([1, 2])

    class Message:
        def value(self) -> bytes:
            return written(Change(department="Sales", revision=1, employees=(1, 2)))

        def headers(self) -> None:
            return None

        def partition(self) -> int:
            return 0

        def offset(self) -> int:
            return 0

    def refuse(_: object) -> None:
        raise OSError("SQS is away")

    def conflict(*_: object, **__: object) -> None:
        raise StaleDataError

    company.apply = conflict
    consumer = ChangeConsumer(company, name="a", send=refuse, rendezvous=0)
    with pytest.raises(OSError, match="SQS is away"):
        consumer.handle(Message())
    assert company.progress().handled == 0
    company.close()
