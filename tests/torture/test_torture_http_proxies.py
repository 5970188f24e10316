"""The proxies do to a request what the dice say, and the API notices who has gone."""

import base64
import http.client
import json
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import Consumer, TopicPartition
from harness.celery_sender import number_of
from harness.history import calls
from harness.http_messages import HttpMessage, answer
from harness.http_proxies import SqsWire
from harness.kafka import Cluster, KafkaSender
from harness.log import Log, lines
from harness.sender import Message
from harness.servers import Servers
from harness.settings import DRAIN, SUBMIT, TOPIC
from harness.timetable import Dice, Throw
from waiting import until

HEADERS = {"Redrive-Fence": "1", "Redrive-Job": "1", "Redrive-Attempt": "1"}


@contextmanager
def serving(folder: Path, *, wire: str = "", api: str = "") -> Iterator[tuple[Servers, Counter[str]]]:
    """Yield an API and its proxy, at which each request meets the same fault."""
    counts: Counter[str] = Counter()
    with ExitStack() as stack:
        logs = [Log(folder / name) for name in ("api.jsonl", "sqs.jsonl")]
        for log in logs:
            stack.callback(log.close)
        made = Servers(1, counts, *logs)
        made.wires["api"].dice = Dice(1, "wire", {wire: 100.0})
        made.api._dice = Dice(1, "api", {api: 100.0})
        made.start()
        stack.callback(made.close)
        yield made, counts


def _put(port: int, key: str = "employees/1", *, patience: float = 30) -> int | None:
    """Return the status; None when the connection was cut or nothing came in time."""
    client = http.client.HTTPConnection("127.0.0.1", port, timeout=patience)
    try:
        client.request("PUT", f"/{key}", headers=HEADERS)
        got = client.getresponse()
        got.read()
    except (OSError, http.client.HTTPException):
        return None
    else:
        return got.status
    finally:
        client.close()


@pytest.mark.parametrize(
    ("fault", "answered", "reached"),
    [
        ("", True, True),
        ("api_cut_before", False, False),
        ("api_cut_before_answer", False, True),
        ("api_drip", True, True),
        ("api_delayed", True, True),
    ],
)
def test_a_fault_on_the_way(fault: str, answered: bool, reached: bool, tmp_path: Path):  # noqa: FBT001 - a table's columns
    with serving(tmp_path, wire=fault) as (made, counts):
        status = _put(made.wires["api"].port)
    seen = calls(lines(tmp_path / "api.jsonl"))
    assert (status is not None, [call.succeeded for call in seen]) == (answered, [True] if reached else [])
    assert counts[fault] >= 1


def test_an_answer_that_is_cut_ends_in_the_middle(tmp_path: Path):
    request = HttpMessage(start="PUT /employees/1 HTTP/1.1", headers={name.lower(): HEADERS[name] for name in HEADERS})
    got = []
    for wire in ("api_cut_in_answer", ""):
        folder = tmp_path / (wire or "whole")
        folder.mkdir()
        with serving(folder, wire=wire) as (made, _), socket.create_connection(("127.0.0.1", made.wires["api"].port)) as client:
            client.sendall(request.encode())
            client.settimeout(30)
            got.append(b"")
            while b"\r\n\r\n" not in got[-1] and (some := client.recv(65536)):
                got[-1] += some
    assert len(got[0]) < len(got[1])
    assert got[1].startswith(got[0])


@pytest.mark.parametrize(("fault", "status"), [("api_503", 503), ("api_409", 409), ("api_429", 429)])
def test_a_fault_of_the_api(fault: str, status: int, tmp_path: Path):
    with serving(tmp_path, api=fault) as (made, _):
        assert _put(made.wires["api"].port) == status


def test_an_unknown_entity_is_unknown_whatever_else_happens(tmp_path: Path):
    with serving(tmp_path, api="api_503") as (made, _):
        assert _put(made.wires["api"].port, "employees/22") == 400


@pytest.mark.parametrize(("fault", "within_drain"), [("api_hangs", True), ("api_stubborn", False)])
def test_the_api_sees_through_the_proxy_that_its_client_went(fault: str, within_drain: bool, tmp_path: Path):  # noqa: FBT001
    with serving(tmp_path, api=fault) as (made, _):
        assert _put(made.wires["api"].port, patience=0.2) is None
        made._run(made.api.rest())
    (call,) = calls(lines(tmp_path / "api.jsonl"))
    assert call.gone is not None
    assert call.ended is not None
    assert (call.ended - call.gone < DRAIN) is within_drain


def test_a_wire_that_is_cut_takes_nobody_until_it_is_mended(tmp_path: Path):
    with serving(tmp_path) as (made, _):
        made.cut("api")
        assert _put(made.wires["api"].port) is None
        made.mend("api")
        assert _put(made.wires["api"].port) == 204


def _asked(action: str, **parameters: Any) -> HttpMessage:
    return HttpMessage(
        start="POST / HTTP/1.1",
        headers={"x-amz-target": f"AmazonSQS.{action}"},
        body=json.dumps({"QueueUrl": "http://sqs/0/jobs", **parameters}).encode(),
    )


@pytest.fixture
def sqs(tmp_path: Path) -> Iterator[SqsWire]:
    log = Log(tmp_path / "sqs.jsonl")
    yield SqsWire(Dice(1, "sqs", {}), Counter(), log)
    log.close()


def test_a_message_that_was_handed_out_is_handed_out_again(sqs: SqsWire):
    throw = Throw(fault="sqs_repeated", share=0.0)
    assert sqs.made_up(_asked("ReceiveMessage"), "sqs_repeated", throw) is None, "there is nothing to repeat yet"
    message = {"MessageId": "m", "ReceiptHandle": "h", "Body": "{}"}
    sqs.note_answer(_asked("ReceiveMessage"), answer(200, json.dumps({"Messages": [message]}).encode()))
    again = sqs.made_up(_asked("ReceiveMessage"), "sqs_repeated", throw)
    assert again
    assert json.loads(again.body) == {"Messages": [message]}
    assert sqs.made_up(_asked("ReceiveMessage", QueueUrl="http://sqs/0/other"), "sqs_repeated", throw) is None


def test_what_redrive_asks_to_delete_is_its_own_from_then_on(sqs: SqsWire, tmp_path: Path):
    messages = [{"MessageId": f"m{number}", "ReceiptHandle": f"h{number}"} for number in range(3)]
    sqs.note_answer(_asked("ReceiveMessage"), answer(200, json.dumps({"Messages": messages}).encode()))
    sqs.note_request(_asked("DeleteMessage", ReceiptHandle="h0"))
    sqs.note_request(_asked("DeleteMessageBatch", Entries=[{"Id": "1", "ReceiptHandle": "h2"}]))
    assert [event["identities"] for event in lines(tmp_path / "sqs.jsonl")] == [["m0"], ["m2"]]


def test_a_consumer_that_comes_by_the_proxy_stays_behind_it(tmp_path: Path):
    """The broker says where it is; who believed that would go round the proxy."""
    cluster = Cluster(tmp_path)
    cluster.start()
    log = Log(tmp_path / "sender.jsonl")
    try:
        until(cluster.is_up, what="the cluster")
        sender = KafkaSender(log, port=cluster.port, place="kafka", nth=0, seed=1, keys=1, rate=1.0)
        assert sender.send([Message(number=number, ids=[1]) for number in range(8)]) == []
        sender.close()
        with serving(tmp_path) as (made, counts):
            wire = made.wires["kafka"]
            wire.upstream = cluster.port
            consumer = Consumer({"bootstrap.servers": f"127.0.0.1:{wire.port}", "group.id": "g", "auto.offset.reset": "earliest"})
            consumer.assign([TopicPartition(TOPIC, number) for number in range(4)])
            found: set[str] = set()

            def read() -> bool:
                message = consumer.poll(0.2)
                if message and not message.error():
                    found.add(f"{message.topic()}/{message.partition()}/{message.offset()}")
                return found == sender.confirmed()

            until(read, what="all that was confirmed")
            assert {member.port for member in consumer.list_topics(timeout=10).brokers.values()} == {wire.port}
            consumer.close()
        assert counts["kafka_delayed"] > 1
        assert cluster.unread() == 8, "nobody has committed"
    finally:
        cluster.stop()
        log.close()


def test_what_a_celery_producer_brought_is_known_by_the_answer_of_sqs(sqs: SqsWire):
    body = base64.b64encode(json.dumps([[], {"route": "stock", "origin": {"n": 7}}, {}]).encode()).decode()
    envelope = base64.b64encode(json.dumps({"body": body}).encode()).decode()
    told = []
    sqs.on_submitted = lambda identity, said: told.append((identity, number_of(said)))
    for queue in (SUBMIT, "redrive-recovery"):
        asked = _asked("SendMessage", QueueUrl=f"http://sqs/0/{queue}", MessageBody=envelope)
        sqs.note_answer(asked, answer(200, b'{"MessageId": "m1"}'))
    sqs.note_answer(_asked("SendMessage", QueueUrl=f"http://sqs/0/{SUBMIT}", MessageBody=envelope), answer(503))
    assert told == [("m1", 7)]
