"""From a failing Python consumer into the ledger: the copied file, real SQS clients, and the page about producers."""

from __future__ import annotations

import asyncio
import json
import re
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from botocore.config import Config
from celery import Celery
from confluent_kafka import TIMESTAMP_CREATE_TIME, Message
from ledger_bench import WakeupRecorder
from redrive_producer import Redrive, to_celery, to_sqs
from sqlalchemy import select
from sqlalchemy.orm.exc import StaleDataError
from waiting import until

from tasks.dlq.ledger import queries
from tasks.dlq.ledger.schema import dead_letters, jobs
from tasks.runtime import Runtime
from tasks.settings import load

ROOT = Path(__file__).parents[2]

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from doubles.sqs_recorder import SqsRecorder
    from mypy_boto3_sqs import SQSClient

    from tasks.devstack.sqs import EmbeddedSqs

QUEUE = "payroll-failures"
PAGE = (ROOT / "docs/howto/send-failures.md").read_text()
SNIPPETS = re.findall(r"^```python\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)
[SOURCE] = re.findall(r"^```toml\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL)
CONFIG = """
[broker]
url = "sqs://local:only-here@127.0.0.1:{port}"
[ledger]
url = "sqlite:///{folder}/ledger.db"
[routes.employees]
url = "http://127.0.0.1:1/employees/{{employeeId}}"
params.employeeId = "positive-int"
"""


class Consumer:
    """A Kafka consumer that remembers what was committed."""

    def __init__(self, *messages: Message) -> None:
        self.messages = messages
        self.committed: list[int | None] = []

    def commit(self, *, message: Message, asynchronous: bool) -> None:
        assert not asynchronous
        self.committed.append(message.offset())


class AsyncConsumer:
    """aiokafka's, as far as the page needs it."""

    def __init__(self, *records: Any) -> None:
        self._records = records
        self._position: int | None = None
        self.committed: list[int | None] = []

    async def __aiter__(self) -> AsyncIterator[Any]:
        for record in self._records:
            self._position = record.offset
            yield record

    async def commit(self) -> None:
        self.committed.append(self._position)


class Database:
    """Writes nothing: someone else always was there before."""

    @contextmanager
    def begin(self) -> Iterator[SimpleNamespace]:
        def apply(event: dict[str, Any]) -> None:
            raise StaleDataError(f"{event} matched no row")

        yield SimpleNamespace(apply=apply)


_offsets = count(1)


def a_message(*employees: int) -> Message:
    return Message(
        topic="payroll",
        partition=3,
        offset=next(_offsets),
        key=str(employees[0]).encode(),
        value=json.dumps({"employees": employees}).encode(),
        timestamp=(TIMESTAMP_CREATE_TIME, 1_700_000_000_000),
    )


@pytest.fixture
def redrive_side(sqs: EmbeddedSqs, tmp_path: Path) -> Iterator[Runtime]:
    """Redrive with the source that the page shows, its queue and an empty ledger."""
    file = tmp_path / "redrive.toml"
    file.write_text(CONFIG.format(port=sqs.port, folder=tmp_path) + SOURCE)
    runtime = Runtime(load(file, {}), WakeupRecorder())
    runtime.ensure_ledger()
    runtime.ensure_queues()
    yield runtime
    intake(runtime)
    runtime.close()


@pytest.fixture
def client(wire: SqsRecorder, monkeypatch: pytest.MonkeyPatch) -> SQSClient:
    """What `boto3.client("sqs")` gives to a consumer in this environment."""
    for name, value in {
        "AWS_ENDPOINT_URL_SQS": f"http://127.0.0.1:{wire.port}",
        "AWS_REGION": "us-east-1",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ACCESS_KEY_ID": "local",
        "AWS_SECRET_ACCESS_KEY": "only-here",
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)
    return boto3.client("sqs", config=Config(retries={"total_max_attempts": 1}))


@pytest.fixture
def queue_url(redrive_side: Runtime) -> str:
    return redrive_side.celery_queues.client.get_queue_url(QueueName=QUEUE)["QueueUrl"]


@pytest.fixture
def payroll(wire: SqsRecorder) -> Iterator[Celery]:
    """Another team's Celery application on the same broker."""
    with Celery("payroll", broker=f"sqs://local:only-here@127.0.0.1:{wire.port}", set_as_current=False) as app:
        yield app


def intake(runtime: Runtime) -> None:
    """Drain the sources, as beat's sweep does."""
    for source, reader in runtime.sources:
        runtime.intake.drain(source, reader, seconds=10)


def letters(runtime: Runtime, source: str = "payroll") -> list[dict[str, Any]]:
    with runtime.ledger.begin(read_only=True) as tx:
        rows = tx.connection.execute(select(dead_letters).where(dead_letters.c.source == source).order_by(dead_letters.c.id))
        return [queries.view_letter(row) for row in rows]


def keys(runtime: Runtime) -> list[str]:
    with runtime.ledger.begin(read_only=True) as tx:
        return sorted(tx.connection.scalars(select(jobs.c.key)))


def run(snippet: str, **given: Any) -> dict[str, Any]:
    """Run a snippet of the page with what a consumer has around it; return its names."""
    names = {"json": json, "StaleDataError": StaleDataError, "database": Database(), **given}
    exec(compile(snippet, "docs/howto/send-failures.md", "exec"), names)  # noqa: S102 - the page's own
    return names


def test_a_failure_inside_the_decorator_is_one_dead_letter_with_its_origin(
    redrive_side: Runtime, client: SQSClient, queue_url: str
):
    consumer = Consumer(a_message(1234, 1235))
    [message] = consumer.messages
    redrive = Redrive(to_sqs(client, queue_url), catch=StaleDataError, group="payroll", stacktrace=True)

    @redrive.handler
    def handle(_message: Message) -> None:
        raise StaleDataError("matched no row") from KeyError("version")

    handle(message)
    consumer.commit(message=message, asynchronous=False)
    intake(redrive_side)

    [letter] = letters(redrive_side)
    told = letter["origin"]["attributes"]
    assert told.pop("stacktrace").endswith("StaleDataError: matched no row\n")
    assert told == {
        "topic": "payroll",
        "partition": "3",
        "offset": str(message.offset()),
        "timestamp": "1700000000000",
        "key": "1234",
        "group": "payroll",
        "exception": "sqlalchemy.orm.exc.StaleDataError",
        "cause": "KeyError",
        "message": "matched no row",
    }
    assert letter["body"].encode() == message.value()
    assert letter["reject_reason"] is None
    assert keys(redrive_side) == ['{"employeeId":"1234"}', '{"employeeId":"1235"}']
    assert consumer.committed == [message.offset()]


@pytest.mark.parametrize("fault", [None, (503, b'{"__type": "ServiceUnavailable", "message": "later"}')])
def test_when_the_send_fails_nothing_is_committed_and_the_message_is_sent_when_it_comes_again(
    redrive_side: Runtime, client: SQSClient, queue_url: str, wire: SqsRecorder, fault: tuple[int, bytes] | None
):
    consumer = Consumer(a_message(7))
    [message] = consumer.messages
    redrive = Redrive(to_sqs(client, queue_url), catch=StaleDataError)

    def consume() -> None:
        with redrive.handling(message):
            raise StaleDataError("matched no row")
        consumer.commit(message=message, asynchronous=False)

    wire.fail("SendMessage", fault)
    with pytest.raises(StaleDataError, match="matched no row") as raised:
        consume()
    assert type(raised.value.__context__).__module__.startswith("botocore")
    intake(redrive_side)
    assert (consumer.committed, letters(redrive_side)) == ([], [])

    consume()
    intake(redrive_side)
    assert consumer.committed == [message.offset()]
    assert len(letters(redrive_side)) == 1


def test_hostile_values_and_exceptions_arrive_too(redrive_side: Runtime, client: SQSClient, queue_url: str):
    values = [None, b"", b"\xff\x00", b'{"employees": [8], "note": "\xef\xbf\xbf"}', b"{" + b"[" * 100_000, '"\0"', "\ud800", 5]
    redrive = Redrive(to_sqs(client, queue_url), stacktrace=True)
    for value in values:
        with redrive.handling(SimpleNamespace(value=value, key=b"\0\xff", topic="\ud800")):
            raise StaleDataError("\0\ud800\uffff" * 1000)
    intake(redrive_side)

    kept = letters(redrive_side)
    assert len(kept) == len(values)
    assert sum(not letter["reject_reason"] for letter in kept) == 1
    assert all(letter["origin"]["attributes"]["key"] == "AP8=" for letter in kept)
    assert keys(redrive_side) == ['{"employeeId":"8"}']


@pytest.mark.usefixtures("celery_session_worker")
def test_a_failure_is_submitted_by_another_celery_application(runtime: Runtime, payroll: Celery):
    message = a_message(4001, 4002)
    sent = to_celery(payroll, "employees", lambda _: [{"employeeId": 4001}, {"employeeId": "4002"}])
    with Redrive(sent, catch=StaleDataError, group="payroll").handling(message):
        raise StaleDataError("matched no row")

    def arrived() -> list[dict[str, Any]]:
        return [letter for letter in letters(runtime, "celery") if letter["origin"].get("offset") == message.offset()]

    first, second = until(lambda: (found := arrived())[1:] and found, what="both submissions")
    for letter in (first, second):
        del letter["origin"]["message_id"]
        assert letter["reject_reason"] is None
    assert (
        first["origin"]
        == second["origin"]
        == {
            "topic": "payroll",
            "partition": 3,
            "offset": message.offset(),
            "timestamp": 1_700_000_000_000,
            "key": "4001",
            "group": "payroll",
            "exception": "sqlalchemy.orm.exc.StaleDataError",
            "message": "matched no row",
        }
    )
    assert {'{"employeeId":"4001"}', '{"employeeId":"4002"}'} <= set(keys(runtime))


# --- docs/howto/send-failures.md -------------------------------------------------------------------------------------


@pytest.mark.usefixtures("client")
def test_the_pages_consumer_hands_over_and_commits(redrive_side: Runtime, queue_url: str):
    consumer = Consumer(a_message(11, 12), a_message(12, 13))
    run(SNIPPETS[0], QUEUE_URL=queue_url, consumer=consumer, messages=consumer.messages)
    intake(redrive_side)
    assert consumer.committed == [message.offset() for message in consumer.messages]
    assert len(letters(redrive_side)) == 2
    assert keys(redrive_side) == [f'{{"employeeId":"{each}"}}' for each in (11, 12, 13)]


@pytest.mark.usefixtures("client")
def test_the_pages_body_of_ones_own_and_its_coroutine(redrive_side: Runtime, queue_url: str):
    async def handle(_record: Any) -> None:
        raise StaleDataError

    names = run(SNIPPETS[0], QUEUE_URL=queue_url, consumer=None, messages=[])
    own = run(SNIPPETS[1], **names)["redrive"]
    with own.handling(a_message(21, 22)):
        raise StaleDataError

    record = SimpleNamespace(offset=5, value=json.dumps({"employees": [23]}))
    consumer = AsyncConsumer(record)
    asyncio.run(run(SNIPPETS[2], redrive=names["redrive"], handle=handle)["consume"](consumer))
    intake(redrive_side)
    assert consumer.committed == [5]
    assert keys(redrive_side) == ['{"employeeId":"21"}', '{"employeeId":"23"}']


@pytest.mark.usefixtures("celery_session_worker")
def test_the_pages_submissions_are_taken(runtime: Runtime, payroll: Celery):
    redrive = run(SNIPPETS[3], app=payroll)["redrive"]
    with redrive.handling(a_message(4101, 4102)):
        raise StaleDataError
    run(SNIPPETS[4], app=payroll)
    for employee in (4101, 4102, 1234):
        body = json.dumps({"parameters": {"employeeId": employee}, "route": "employees"}, separators=(",", ":"))
        until(lambda body=body: [each for each in letters(runtime, "celery") if each["body"] == body], what=body)
    assert len(SNIPPETS) == 5
