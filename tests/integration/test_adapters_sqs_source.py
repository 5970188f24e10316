"""SQS as teams have it: FIFO queues, redrive policies that end at ours, and what other services wrap around a body."""

from __future__ import annotations

import base64
import json
import tomllib
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import structlog.testing
from doubles.sqs_recorder import recording_sqs
from sources_harness import client_of, employee
from sqlalchemy import select
from structlog.testing import capture_logs

from tasks.adapters.sqs import SqsQueue, SqsSource, count_messages
from tasks.adapters.sqs.queues import dead_letter_queue, ensure_queue
from tasks.dlq.errors import BrokerUnavailable
from tasks.dlq.ledger.audit import audit
from tasks.dlq.ledger.schema import dead_letters, jobs
from tasks.runtime import Runtime
from tasks.settings import assemble

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mypy_boto3_sqs import SQSClient

    from tasks.devstack.sqs import EmbeddedSqs
    from tasks.dlq.ports import Record

DOCS = [Path(__file__).parents[2] / page for page in ("docs/howto/sqs.md", "docs/reference/sqs.md")]
BASE = """
[broker]
url = "sqs://local:only-here@127.0.0.1:{port}"
[ledger]
url = "sqlite:///{folder}/ledger.db"
[routes.employees]
url = "http://127.0.0.1:1/employees/{{employeeId}}"
params.employeeId = "positive-int"
"""


@pytest.fixture
def client(sqs: EmbeddedSqs) -> Iterator[SQSClient]:
    made = client_of(sqs.port)
    yield made
    made.close()


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    return request.node.name[-60:].replace("[", "-").replace("]", "").replace(".", "-").strip("-")


class Silent:
    def send(self, job_id: int, *, delay: float) -> None:
        pass


def ensured(client: SQSClient, name: str, *, max_receives: int = 5) -> str:
    return ensure_queue(client, name, visibility_timeout=600, max_receives=max_receives)


def attributes(client: SQSClient, url: str) -> dict[str, Any]:
    return client.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]


def queues(client: SQSClient, prefix: str) -> set[str]:
    return {url.rpartition("/")[2] for url in client.list_queues(QueueNamePrefix=prefix).get("QueueUrls", [])}


def send(client: SQSClient, queue: str, body: str | bytes, **rest: Any) -> None:
    url = client.get_queue_url(QueueName=queue)["QueueUrl"]
    client.send_message(QueueUrl=url, MessageBody=body.decode() if isinstance(body, bytes) else body, **rest)


def give_up(client: SQSClient, queue: str, *, times: int) -> None:
    """Receive all of a queue's messages as a consumer does that never gets through, until SQS moves them."""
    url = client.get_queue_url(QueueName=queue)["QueueUrl"]
    for _ in range(times + 1):
        client.receive_message(QueueUrl=url, MaxNumberOfMessages=10, VisibilityTimeout=0)


def take_all(source: SqsSource) -> list[Record]:
    """Return and acknowledge all that is there."""
    taken: list[Record] = []
    while records := source.receive(wait=0):
        taken += records
        source.acknowledge(records)
    return taken


def bodies(records: Sequence[Record]) -> list[bytes]:
    return [record.body for record in records]


# --- the queues that Redrive makes -----------------------------------------------------------------------------------


def test_what_a_dead_letter_queue_is_called():
    assert dead_letter_queue("orders") == "orders-dead"
    assert dead_letter_queue("orders.fifo") == "orders-dead.fifo"


def test_what_a_queue_holds_is_counted_wherever_it_is(client: SQSClient, name: str):
    url = ensured(client, name)
    for delay in (0, 0, 60):
        send(client, name, "{}", DelaySeconds=delay)
    client.receive_message(QueueUrl=url, MaxNumberOfMessages=1)
    assert count_messages(client, name) == count_messages(client, url) == 3
    with pytest.raises(BrokerUnavailable):
        count_messages(client, f"{name}-none")


@pytest.mark.parametrize("end", ["", ".fifo"])
def test_a_queue_is_made_with_a_dead_letter_queue_of_its_kind(client: SQSClient, name: str, end: str):
    url = ensured(client, name + end)
    assert ensured(client, name + end) == url

    assert queues(client, name) == {name + end, f"{name}-dead{end}"}
    dead = attributes(client, client.get_queue_url(QueueName=f"{name}-dead{end}")["QueueUrl"])
    made = attributes(client, url)
    policy = json.loads(made["RedrivePolicy"])
    assert policy == {"deadLetterTargetArn": dead["QueueArn"], "maxReceiveCount": "5"}
    for each in (made, dead):
        assert each["MessageRetentionPeriod"] == str(14 * 24 * 3600)
        assert each.get("FifoQueue") == ("true" if end else None)
        assert each.get("ContentBasedDeduplication", "false") == "false"


@pytest.mark.parametrize("end", ["", ".fifo"])
def test_an_existing_queue_gets_what_it_lacks_and_keeps_the_rest(client: SQSClient, name: str, end: str):
    made = {"VisibilityTimeout": "7", "MessageRetentionPeriod": "3600"} | ({"FifoQueue": "true"} if end else {})
    url = client.create_queue(QueueName=name + end, Attributes=made)["QueueUrl"]
    assert ensured(client, name + end) == url
    found = attributes(client, url)
    assert json.loads(found["RedrivePolicy"])["deadLetterTargetArn"].endswith(f":{name}-dead{end}")
    assert {**found, **made} == found


def test_a_queue_that_was_made_by_the_way_keeps_messages_as_long_as_one_of_ours(client: SQSClient, name: str):
    url = client.create_queue(QueueName=name)["QueueUrl"]
    with structlog.testing.capture_logs() as logs:
        ensure_queue(client, name, visibility_timeout=600, max_receives=5, least_visibility=600)
    assert attributes(client, url)["MessageRetentionPeriod"] == str(14 * 24 * 3600)
    (told,) = [each for each in logs if each["log_level"] == "warning"]
    assert (told["seconds"], told["needed"]) == (30, 600), "one that hands out too early is told of, and left as it is"


def test_a_queue_with_a_redrive_policy_is_left_as_it_is(client: SQSClient, name: str):
    dead = client.create_queue(QueueName=f"{name}-graveyard")["QueueUrl"]
    policy = json.dumps({"deadLetterTargetArn": attributes(client, dead)["QueueArn"], "maxReceiveCount": "3"})
    url = client.create_queue(QueueName=name, Attributes={"RedrivePolicy": policy})["QueueUrl"]
    assert ensured(client, name) == url
    assert attributes(client, url)["RedrivePolicy"] == policy
    assert queues(client, name) == {name, f"{name}-graveyard"}


def test_a_dead_letter_queue_that_vanished_is_made_again(client: SQSClient, name: str):
    ensured(client, name)
    client.delete_queue(QueueUrl=client.get_queue_url(QueueName=f"{name}-dead")["QueueUrl"])
    ensured(client, name)
    assert queues(client, name) == {name, f"{name}-dead"}


# --- FIFO ------------------------------------------------------------------------------------------------------------


def test_a_fifo_queue_is_drained_over_its_groups_and_its_dead_letter_queue(client: SQSClient, name: str):
    queue = f"{name}.fifo"
    ensured(client, queue, max_receives=2)
    for number in range(3):
        send(client, queue, employee(90 + number), MessageGroupId="given up", MessageDeduplicationId=f"g-{number}")
    give_up(client, queue, times=2)
    for number in range(24):
        send(client, queue, employee(number), MessageGroupId=f"group {number % 2}", MessageDeduplicationId=f"m-{number}")

    records = take_all(SqsSource(SqsQueue(source="letters", queue=queue), client))

    assert sorted(bodies(records)) == sorted(map(employee, [*range(24), 90, 91, 92]))
    for group in (0, 1):
        mine = [record.body for record in records if record.origin["message_group"] == f"group {group}"]
        assert mine == [employee(number) for number in range(24) if number % 2 == group]
    assert records[0].origin["deduplication_id"] == "m-0"
    (given_up,) = {record.origin.get("dead_letter_queue_source") for record in records} - {None}
    assert str(given_up).endswith(f":{queue}")


def test_a_fifo_send_that_is_repeated_counts_once_and_a_failure_that_is_repeated_twice(client: SQSClient, name: str):
    queue = f"{name}.fifo"
    ensured(client, queue)
    for deduplication in ("orders/0/17", "orders/0/17", "orders/0/18"):
        send(client, queue, employee(1), MessageGroupId="1", MessageDeduplicationId=deduplication)
    assert len(take_all(SqsSource(SqsQueue(source="letters", queue=queue), client))) == 2


def test_content_based_deduplication_is_warned_of(client: SQSClient, name: str):
    client.create_queue(QueueName=f"{name}.fifo", Attributes={"FifoQueue": "true", "ContentBasedDeduplication": "true"})
    with capture_logs() as logs:
        SqsSource(SqsQueue(source="letters", queue=f"{name}.fifo"), client).receive(wait=0)
    (warning,) = [each for each in logs if each["log_level"] == "warning"]
    assert "MessageDeduplicationId" in warning["hint"]


# --- redrive policies ------------------------------------------------------------------------------------------------


def test_a_source_is_the_target_of_another_queues_redrive_policy(client: SQSClient, name: str):
    ensured(client, name)
    target = attributes(client, client.get_queue_url(QueueName=name)["QueueUrl"])["QueueArn"]
    policy = json.dumps({"deadLetterTargetArn": target, "maxReceiveCount": "2"})
    theirs = client.create_queue(QueueName=f"{name}-theirs", Attributes={"RedrivePolicy": policy})["QueueUrl"]
    binary = {"DataType": "Binary", "BinaryValue": b"\xff\x00"}
    send(
        client,
        f"{name}-theirs",
        employee(1),
        MessageAttributes={"kind": {"DataType": "String", "StringValue": "employee"}, "raw": binary},
        MessageSystemAttributes={"AWSTraceHeader": {"DataType": "String", "StringValue": "Root=1-5759e988"}},
    )
    give_up(client, f"{name}-theirs", times=2)

    (record,) = take_all(SqsSource(SqsQueue(source="letters", queue=name), client))

    origin = dict(record.origin)
    assert origin.pop("dead_letter_queue_source") == attributes(client, theirs)["QueueArn"]
    assert origin.pop("message_id") == record.identity
    assert 0 < origin.pop("sent_at") <= origin.pop("first_received_at")
    assert origin == {
        "queue": name,
        "receive_count": 3,
        "trace": "Root=1-5759e988",
        "attributes": {"kind": "employee", "raw": {"base64": "/wA="}},
    }
    json.dumps(origin)


def test_a_dead_letter_queue_that_is_shared_is_left_alone(sqs: EmbeddedSqs, client: SQSClient, name: str):
    url = ensured(client, name)
    send(client, f"{name}-dead", employee(1))
    send(client, name, employee(2))
    shared = json.dumps({"queueUrls": [url, url + "-other"]}).encode()
    with recording_sqs(sqs.port) as wire, capture_logs() as logs:
        wire.fail("ListDeadLetterSourceQueues", (200, shared))
        far = client_of(wire.port)
        assert bodies(take_all(SqsSource(SqsQueue(source="letters", queue=name), far))) == [employee(2)]
        far.close()
    (warning,) = [each for each in logs if each["log_level"] == "warning"]
    assert (warning["queue"], warning["shared_with"]) == (f"{name}-dead", [f"{name}-other"])


@pytest.mark.parametrize("told", [True, False])
def test_a_dead_letter_queue_of_ones_own_is_read(sqs: EmbeddedSqs, client: SQSClient, name: str, *, told: bool):
    url = ensured(client, name)
    send(client, f"{name}-dead", employee(1))
    denied = json.dumps({"__type": "com.amazonaws.sqs#AccessDenied", "message": "no"}).encode()
    with recording_sqs(sqs.port) as wire:
        wire.fail("ListDeadLetterSourceQueues", (200, json.dumps({"queueUrls": [url]}).encode()) if told else (403, denied))
        far = client_of(wire.port)
        assert bodies(take_all(SqsSource(SqsQueue(source="letters", queue=name), far))) == [employee(1)]
        far.close()


TWO_READERS = """
[sources.living]
kind = "sqs"
queue = "{name}"
route = "employees"
map.employeeId = "employeeId"
[sources.dead]
kind = "sqs"
queue = "{other}"
route = "employees"
map.employeeId = "employeeId"
"""


@pytest.mark.parametrize("by_url", [False, True], ids=["name", "URL"])
def test_a_source_waits_while_its_dead_letter_queue_has_another_reader(
    sqs: EmbeddedSqs, client: SQSClient, name: str, tmp_path: Path, *, by_url: bool
):
    """A message that was taken in and not deleted would be moved there, and count twice."""
    grave = client.create_queue(QueueName=f"{name}-graveyard")["QueueUrl"]
    policy = {"deadLetterTargetArn": attributes(client, grave)["QueueArn"], "maxReceiveCount": "1"}
    url = client.create_queue(QueueName=name, Attributes={"RedrivePolicy": json.dumps(policy)})["QueueUrl"]
    send(client, name, employee(1))
    send(client, f"{name}-graveyard", employee(2))
    text = BASE + TWO_READERS.replace("{name}", name).replace("{other}", grave if by_url else f"{name}-graveyard")
    runtime = Runtime(assemble(tomllib.loads(text.format(port=sqs.port, folder=tmp_path)), {}), Silent())
    living, dead = (source for source, _ in runtime.swept_sources if source.name in {"living", "dead"})

    for _ in range(2):
        with pytest.raises(BrokerUnavailable) as told:
            living.receive(wait=0)
    assert told.value.message == (
        f"source living waits: source dead reads {name}-graveyard as well, the dead-letter queue of its queue {name}"
    )
    assert bodies(dead.receive(wait=0)) == [employee(2)]

    client.set_queue_attributes(QueueUrl=url, Attributes={"RedrivePolicy": ""})  # mended: it goes on by itself
    assert bodies(living.receive(wait=0)) == [employee(1)]
    runtime.close()


def test_a_dead_letter_queue_of_redrives_own_is_read_by_redrive(sqs: EmbeddedSqs, client: SQSClient, name: str, tmp_path: Path):
    ensured(client, "redrive-submit")
    target = attributes(client, client.get_queue_url(QueueName="redrive-submit-dead")["QueueUrl"])["QueueArn"]
    policy = json.dumps({"deadLetterTargetArn": target, "maxReceiveCount": "5"})
    client.create_queue(QueueName=name, Attributes={"RedrivePolicy": policy})
    text = BASE + TWO_READERS.replace("{name}", name).replace("{other}", "elsewhere")
    runtime = Runtime(assemble(tomllib.loads(text.format(port=sqs.port, folder=tmp_path)), {}), Silent())
    with pytest.raises(BrokerUnavailable, match="Redrive itself reads redrive-submit-dead as well"):
        runtime.swept_sources[0][0].receive(wait=0)
    runtime.close()


@pytest.mark.parametrize(
    ("queue", "is_it"),
    [
        ("q", True),
        ("111111111111/q", True),
        ("queue/q", True),  # as an older ElasticMQ has it: no account
        ("222222222222/q", False),
        ("111111111111/p", False),
    ],
)
def test_the_reader_of_a_dead_letter_queue_is_known_by_name_and_account(client: SQSClient, name: str, queue: str, *, is_it: bool):
    target = "arn:aws:sqs:us-east-1:111111111111:q"
    source = SqsSource(SqsQueue(source="letters", queue=name, other_readers={queue: "source other"}), client)
    policy = json.dumps({"deadLetterTargetArn": target, "maxReceiveCount": "5"})
    with pytest.raises(BrokerUnavailable) if is_it else nullcontext():
        assert source._find_dead_letter_url("http://h/111111111111/living", policy) == []  # SQS has no such queue


# --- what the docs show ----------------------------------------------------------------------------------------------


#: One source for each further list in the page's table of envelopes.
ENVELOPES = {"functions": '["lambda"]', "events": '["eventbridge"]', "encoded": '["sns", "base64"]'}


def snippets() -> str:
    pages = "".join(page.read_text() for page in DOCS)
    for name, unwrap in ENVELOPES.items():
        assert f"| `{unwrap}` |" in pages
        pages += (
            f'```toml\n[sources.{name}]\nkind = "sqs"\nqueue = "{name}"\nunwrap = {unwrap}\n'
            'route = "employees"\nmap.employeeId = "employeeId"\n```'
        )
    return "".join(part.partition("```")[0] for part in pages.split("```toml\n")[1:])


def notification(message: str) -> str:
    return json.dumps({"Type": "Notification", "TopicArn": "arn:aws:sns:us-east-1:000000000000:t", "Message": message})


def about(number: int) -> str:
    return employee(number).decode()


#: Source of the docs → the bodies that it is for. Every one of them needs employees of its own.
SENT: dict[str, list[str]] = {
    "employees": [about(1)],
    "teams": ['{"members": [{"id": 2}, {"id": 3}]}'],
    "orders": [about(4)],
    "shared": [about(5), '{"holder": {"id": 6}}'],
    "notices": [notification(about(7))],
    "functions": [
        json.dumps({"version": "1.0", "requestContext": {"condition": "RetriesExhausted"}, "requestPayload": {"employeeId": 8}})
    ],
    "events": [json.dumps({"version": "0", "detail-type": "employee changed", "source": "hr", "detail": {"employeeId": 9}})],
    "encoded": [notification(base64.b64encode(employee(10)).decode())],
}
#: What a function that reads a stream sends to its destination: no payload.
BATCH_INFO = json.dumps({"requestContext": {"condition": "RetryAttemptsExhausted"}, "KinesisBatchInfo": {"batchSize": 1}})


@pytest.fixture
def runtime(sqs: EmbeddedSqs, tmp_path: Path) -> Iterator[Runtime]:
    text = BASE.format(port=sqs.port, folder=tmp_path) + snippets()
    made = Runtime(assemble(tomllib.loads(text), {}, file="redrive.toml"), Silent())
    made.ensure_ledger()
    made.ensure_queues()
    yield made
    made.close()


def test_every_queue_of_the_docs_is_read_as_they_say(client: SQSClient, runtime: Runtime):
    tables = runtime.settings.sources
    assert tables.keys() == SENT.keys()
    for source, sent in SENT.items():
        for body in [*sent, "no json"]:
            fifo = {"MessageGroupId": "1", "MessageDeduplicationId": body} if tables[source].queue.endswith(".fifo") else {}
            if "holder" not in body:
                send(client, tables[source].queue, body, **fifo)
    badges(client, tables["shared"].queue, '{"holder": {"id": 6}}')
    send(client, tables["functions"].queue, BATCH_INFO)

    for source, reader in runtime.sources:
        runtime.intake.drain(source, reader, seconds=60)

    with runtime.ledger.begin(read_only=True) as tx:
        keys = {json.loads(key)["employeeId"] for key in tx.connection.execute(select(jobs.c.key)).scalars()}
        reasons = sorted(filter(None, tx.connection.execute(select(dead_letters.c.reject_reason)).scalars()))
        found = audit(tx)
    assert keys == {str(number) for number in range(1, 11)}
    assert reasons == ["not-json"] * 8 + ["not-wrapped"]
    assert {name: (each.accepted, each.rejected) for name, each in found.sources.items()} == {
        name: (len(sent) + 1 + (name == "functions"), 1 + (name == "functions")) for name, sent in SENT.items()
    }
    assert found.balanced


def badges(client: SQSClient, target: str, body: str) -> None:
    """Have SQS move a message from the queue `badges`, as the docs have it."""
    arn = attributes(client, client.get_queue_url(QueueName=target)["QueueUrl"])["QueueArn"]
    policy = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": "1"})
    client.create_queue(QueueName="badges", Attributes={"RedrivePolicy": policy})
    send(client, "badges", body)
    give_up(client, "badges", times=1)


@pytest.mark.parametrize("answer", ["get_queue_url", "get_queue_attributes"])
def test_an_answer_that_was_cut_off_is_an_outage(client: SQSClient, name: str, answer: str, monkeypatch: pytest.MonkeyPatch):
    """Of an answer that ends in its headers botocore makes an empty one, and says nothing."""
    ensure_queue(client, name, visibility_timeout=30, max_receives=3)
    send(client, dead_letter_queue(name), employee(1))
    source = SqsSource(SqsQueue(source="cut", queue=name), client)
    with monkeypatch.context() as patch:
        patch.setattr(client, answer, lambda **_: {})
        with pytest.raises(BrokerUnavailable, match="cut off"):
            source.receive(wait=0)
    assert [record.body for record in source.receive(wait=0)] == [employee(1)], "its dead-letter queue is read, too"
