"""Celery's messages as strangers' bytes: what is read of them, and what Celery is handed."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from kombu.utils import json as kombu_json

from tasks.adapters.celery_messages import MessageReader, find_task, read_message, submitted
from tasks.dlq.calls.route import Route
from tasks.dlq.errors import UnreadableBody
from tasks.dlq.parameters import Integer
from tasks.dlq.ports import Record
from tasks.dlq.reading.reader import SubmissionReader, encode_submission
from tasks.names import KEEP
from tasks.worker.transport import Channel, build_payload

WAKEUPS = frozenset({"redrive.recover", "redrive.prune"})
READER = MessageReader(
    SubmissionReader(routes={"employees": Route(name="employees", url="http://a/{id}", params={"id": Integer(positive=True)})}),
    WAKEUPS,
)


def encoded(arguments: Any) -> str:
    return base64.b64encode(arguments if isinstance(arguments, bytes) else json.dumps(arguments).encode()).decode()


def message(arguments: Any = ([], {}, {}), *, headers: dict[str, Any] | None = None, **changed: Any) -> bytes:
    """A message as kombu sends it, in base64."""
    envelope = {
        "body": encoded(arguments),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {"task": "redrive.submit", "id": "chosen", "retries": 0} | (headers or {}),
        "properties": {"body_encoding": "base64", "delivery_info": {}},
    }
    return base64.b64encode(json.dumps(envelope | changed).encode())


def test_a_message_is_read_in_base64_and_plain():
    sent = message([["employees"], {"parameters": {"id": 1}}, {"chain": None}])
    plain = read_message(base64.b64decode(sent))
    assert read_message(sent) == plain
    assert (plain.task, plain.id) == ("redrive.submit", "chosen")
    assert (plain.args, plain.kwargs) == (["employees"], {"parameters": {"id": 1}})


def test_arguments_need_no_base64():
    assert read_message(message(body="[[1], {}, {}]", properties={})).args == [1]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "empty"),
        (b"no json", "not-json"),
        (b"\xff\xfe", "not-utf8"),
        (b"[1]", "not-a-task"),
        (b"{}", "not-a-task"),
        (b"[" * 100_000, "too-deep"),
        (b"[" * (3 << 20), "too-large"),
        (message(headers={"id": None}), "not-a-task"),
        (message(headers={"id": 5}), "not-a-task"),
        (message(headers={"id": "x" * 256}), "not-a-task"),
        (message(headers={"task": ["redrive.submit"]}), "not-a-task"),
        (message(headers={"task": ""}), "not-a-task"),
        (b'{"headers": [1], "body": "", "properties": {}}', "not-a-task"),
        (message(properties=None), "not-a-task"),
        (message(body=5), "not-a-task"),
        (message(body="!!!"), "not-a-task"),
        (message(body="\ud800"), "not-a-task"),
        (message(headers={"compression": "application/x-bz2"}), "not-a-task"),
        (message(**{"content-type": "application/x-python-serialize"}), "not-a-task"),
        (message(**{"content-type": ["application/json"]}), "not-a-task"),
        (message([]), "not-a-task"),
        (message([[], [], {}]), "not-a-task"),
        (message(["abc", {}, {}]), "not-a-task"),
        (message([{"a": 1}, {}, {}]), "not-a-task"),
        (message(b"[[], {}, {}"), "not-json"),
        (message(b'[[], {"a": 1, "a": 2}, {}]'), "duplicate-key"),
        (message(b'[[], {"a": NaN}, {}]'), "not-a-number"),
        (message(b'[[], {"a": ' + b"9" * 5000 + b"}, {}]"), "integer-too-long"),
        (message(b"[[" + b"[" * 900 + b"]" * 900 + b"], {}, {}]"), "too-deep"),
    ],
)
def test_all_else_is_refused_with_a_reason(body: bytes, reason: str):
    with pytest.raises(UnreadableBody) as refused:
        read_message(body)
    assert refused.value.reason == reason
    assert find_task(body) == ""
    letter = READER.read("celery", Record(identity="m-1", body=body))
    assert letter.rejection is not None
    assert letter.rejection.reason == reason
    assert letter.body == body


def test_a_message_for_another_task_is_rejected():
    letter = READER.read("celery", Record(identity="m-1", body=message(headers={"task": "shop.sell"})))
    assert letter.rejection is not None
    assert letter.rejection.reason == "unknown-task"


@pytest.mark.parametrize(
    ("task", "arguments"),
    [
        ("redrive.recover", [[], {}]),
        ("redrive.recover", [[1, 2], {}]),
        ("redrive.recover", [["1"], {}]),
        ("redrive.recover", [[True], {}]),
        ("redrive.recover", [[0], {}]),
        ("redrive.recover", [[2**63], {}]),
        ("redrive.recover", [[1.5], {}]),
        ("redrive.recover", [[{"a": 1}], {}]),
        ("redrive.recover", [[1], {"a": 1}]),
        ("redrive.prune", [[1], {}]),
        ("redrive.prune", [[], {"keep": 0}]),
    ],
)
def test_a_wake_up_with_other_arguments_is_no_call(task: str, arguments: list[Any]):
    body = message(arguments, headers={"task": task})
    with pytest.raises(UnreadableBody) as refused:
        build_payload(read_message(body), "m-1")
    assert refused.value.reason == "wrong-arguments"
    letter = READER.read("celery", Record(identity="m-1", body=body))
    assert letter.rejection is not None
    assert letter.rejection.reason == "wrong-arguments"


def test_a_wake_up_is_a_call():
    assert (
        build_payload(read_message(message([[7], {}], headers={"task": "redrive.recover"})), "m-1")["headers"]["id"] == "chosen"
    )
    assert build_payload(read_message(message([[], {}], headers={"task": "redrive.prune"})), "m-1")


def test_the_worker_and_the_sweep_make_the_same_dead_letter_of_a_submission():
    """It may be taken by both: when the acknowledgement of the first is lost."""
    arguments = [["employees"], {"parameters": {"id": "7"}, "origin": {"topic": "t"}}, {}]
    swept = READER.read("celery", Record(identity="m-1", body=message(arguments), origin={"message_id": "m-1"}))
    task = submitted(Record(identity="m-1", body=b"", origin={"message_id": "m-1"}), arguments[0], arguments[1])
    assert swept == READER.submissions.read("celery", task)
    assert swept.body == encode_submission("employees", {"id": "7"})
    assert swept.origin == {"topic": "t", "message_id": "m-1"}


def test_celery_is_handed_the_call_and_nothing_else_that_was_asked():
    wishes = {
        "eta": "2999-01-01T00:00:00",
        "expires": "2001-01-01T00:00:00",
        "timelimit": [0.1, 0.1],
        "stamps": 5,
        "group": {"a": 1},
        "reply_to": "x",
        "sqs_message_id": "mine",
    }
    arguments = [["employees", {"id": 1}], {}, {"chain": [{"task": "x"}], "callbacks": 5}]
    payload = build_payload(read_message(message(arguments, headers=wishes)), "m-1")
    assert kombu_json.loads(payload["body"]) == [[["employees", {"id": 1}], {}], {}, {}]
    assert payload["headers"] == {
        "lang": "py",
        "task": "redrive.submit",
        "id": "chosen",
        "root_id": "chosen",
        "retries": 0,
        "argsrepr": "",
        "kwargsrepr": "",
        "sqs_message_id": "m-1",
    }


@pytest.mark.parametrize("value", [{"__type__": "datetime", "__value__": "soon"}, {"__type__": "decimal", "__value__": "5"}])
def test_what_kombu_would_make_an_object_of_is_not_plain(value: dict[str, str]):
    with pytest.raises(UnreadableBody) as refused:
        build_payload(read_message(message([[value], {}, {}])), "m-1")
    assert refused.value.reason == "not-plain"


@pytest.mark.parametrize(
    "body", ["no json", base64.b64encode(b"\xff").decode(), "\ud800", message(headers={"task": "shop.sell"}).decode()]
)
def test_a_message_that_is_no_call_becomes_a_call_that_keeps_it(body: str):
    payload = Channel._message_to_python(
        object.__new__(_Bare), {"Body": body, "MessageId": "m-1", "ReceiptHandle": "r"}, "q", "u"
    )
    assert payload["headers"]["task"] == KEEP
    (kept,), _, _ = json.loads(payload["body"])
    assert base64.b64decode(kept) == body.encode("utf-8", "surrogatepass")


class _Bare(Channel):
    """A channel that was never connected."""

    def __init__(self) -> None: ...

    def __del__(self) -> None: ...
