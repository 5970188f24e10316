"""A ledger with no room left, over a real SQS: nothing is lost or delivered in vain, and intake goes on by itself."""

from __future__ import annotations

import json
import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import structlog.testing
from command_line import client_of
from ledger_bench import SQLITE, Bench, WakeupRecorder, open_bench
from sqlalchemy import event
from waiting import TEST_TIMEOUT, until

from tasks import continuous_intake
from tasks.adapters.celery_messages import CeleryDeadLetters
from tasks.adapters.sqs import Connection, SqsQueue, SqsSource
from tasks.adapters.sqs.queues import ensure_queue
from tasks.adapters.sqs.source import GIVEN_BACK
from tasks.continuous_intake import SourceThread
from tasks.dlq.calls.route import Route
from tasks.dlq.errors import BrokerUnavailable, LedgerUnavailable
from tasks.dlq.parameters import Integer
from tasks.dlq.reading.mapping import BodyMapping
from tasks.dlq.reading.reader import BodyReader, RouteChoice
from tasks.dlq.services.intake import Intake

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from mypy_boto3_sqs import SQSClient

    from tasks.devstack.sqs import EmbeddedSqs
    from tasks.dlq.ledger import Ledger
    from tasks.dlq.ports import Record

ROUTE = Route(name="employees", url="http://127.0.0.1:1/employees/{employeeId}", params={"employeeId": Integer(positive=True)})
READER = BodyReader(
    choices=[RouteChoice(route=ROUTE, mapping=BodyMapping(params={"employeeId": "employeeId"}))], max_body=100_000
)
#: Each message needs pages of its own: a full SQLite file still has room in the pages it has.
PADDING = "x" * 20_000
MESSAGES = 25
MAX_RECEIVES = 3
#: Without giving back, a batch would be hidden for longer than these tests last.
VISIBILITY = 600


class Disk:
    """The room that a ledger's SQLite file has: as many pages as it has now while it is full."""

    def __init__(self, ledger: Ledger) -> None:
        self.full = True
        event.listen(ledger.engine, "checkout", self._limit)

    def _limit(self, connection: Any, *_: object) -> None:
        connection.execute(f"PRAGMA max_page_count = {1 if self.full else 1 << 30}")


class CountedSource(SqsSource):
    """Keeps in mind how often SQS says that it has delivered its messages."""

    receives = 0
    most = 0

    def receive(self, *, wait: float) -> Sequence[Record]:
        records = super().receive(wait=wait)
        self.receives += bool(records)
        self.most = max([self.most, *(int(str(record.origin["receive_count"])) for record in records)])
        return records


@pytest.fixture
def client(sqs: EmbeddedSqs) -> Iterator[SQSClient]:
    client = client_of(sqs)
    yield client
    client.close()


@pytest.fixture
def queue(client: SQSClient, tmp_path: Path) -> str:
    name = tmp_path.name.replace("_", "-")[-60:]
    url = ensure_queue(client, name, visibility_timeout=VISIBILITY, max_receives=MAX_RECEIVES)
    for number in range(MESSAGES):
        client.send_message(QueueUrl=url, MessageBody=json.dumps({"employeeId": number + 1, "more": PADDING}))
    return name


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    yield from open_bench(SQLITE, tmp_path)


def left(client: SQSClient, queue: str) -> int:
    url = client.get_queue_url(QueueName=queue)["QueueUrl"]
    attributes = client.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    return sum(int(value) for name, value in attributes.items() if name.startswith("ApproximateNumberOfMessages"))


def test_continuous_intake_waits_for_room_and_goes_on(
    client: SQSClient, queue: str, bench: Bench, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(continuous_intake, "_FIRST_PAUSE", 0.05)
    monkeypatch.setattr(continuous_intake, "_LONGEST_PAUSE", 0.1)
    monkeypatch.setattr(continuous_intake, "LONG_POLL", 1.0)
    ledger = bench.connect()
    disk = Disk(ledger)
    source = CountedSource(SqsQueue(source="queue", queue=queue), client)
    intake = Intake(ledger, {"employees": ROUTE}, WakeupRecorder())
    ended = threading.Event()
    runtime: Any = SimpleNamespace(intake=intake, settings=SimpleNamespace(worker=SimpleNamespace(slice=5.0)))
    follower = SourceThread(runtime, source, READER, ended)
    with structlog.testing.capture_logs() as logs:
        follower.start()
        until(lambda: len([entry for entry in logs if entry["event"] == "source_unavailable"]) > 2 * MAX_RECEIVES)
        assert source.receives == 1, "nothing is received while the ledger has no room"
        assert bench.sums() == {}
        assert left(client, queue) == MESSAGES
        disk.full = False
        until(lambda: left(client, queue) == 0)
        ended.set()
        assert follower.idle.wait(TEST_TIMEOUT)
    ledger.close()
    assert not follower.crashed
    assert bench.sums() == {"accepted": MESSAGES, "pending": MESSAGES}
    assert source.most == 2 < MAX_RECEIVES
    assert left(client, f"{queue}-dead") == 0
    (given_back,) = [entry for entry in logs if entry["event"] == "batch_given_back"]
    assert "database or disk is full" in given_back["error"]
    assert "source_recovered" in [entry["event"] for entry in logs]


def test_a_sweep_leaves_the_queue_alone_until_there_is_room(client: SQSClient, queue: str, bench: Bench):
    ledger = bench.connect()
    disk = Disk(ledger)
    source = CountedSource(SqsQueue(source="queue", queue=queue), client)
    intake = Intake(ledger, {"employees": ROUTE}, WakeupRecorder())
    for _ in range(2 * MAX_RECEIVES):
        with pytest.raises(LedgerUnavailable, match="disk is full"):
            intake.drain(source, READER, seconds=5)
    assert source.receives == 1
    disk.full = False
    assert intake.drain(source, READER, seconds=5).accepted == MESSAGES
    until(lambda: intake.drain(source, READER, seconds=5, wait=1.0).known, what="what was given back")
    ledger.close()
    assert left(client, queue) == 0
    assert source.most == 2
    assert bench.sums() == {"accepted": MESSAGES, "pending": MESSAGES}


def test_what_is_given_back_is_handed_out_again_within_seconds(client: SQSClient, queue: str):
    """By a Celery queue's dead-letter queue as well."""
    source = CeleryDeadLetters(SqsSource(SqsQueue(source="queue", queue=queue), client), frozenset())
    records = [record for _ in range(3) for record in source.receive(wait=0)]
    assert len(records) == MESSAGES > 10, "more than one request takes"
    assert source.receive(wait=0) == []
    source.give_back(records)
    again = [record for _ in range(3) for record in source.receive(wait=2.0 * GIVEN_BACK)]
    assert {record.identity for record in again} == {record.identity for record in records}


def test_giving_back_to_an_sqs_that_is_away_says_so(client: SQSClient, queue: str, sqs: EmbeddedSqs):
    records = SqsSource(SqsQueue(source="queue", queue=queue), client).receive(wait=0)
    keys = {"access_key_id": "local", "secret_access_key": "only-here"}
    gone = Connection(region=sqs.region, endpoint_url="http://127.0.0.1:1", **keys).client()
    with pytest.raises(BrokerUnavailable, match="SQS does not answer"):
        SqsSource(SqsQueue(source="queue", queue=queue), gone).give_back(records)
    gone.close()
