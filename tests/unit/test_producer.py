"""The file that a Python team copies beside its consumer: what it sends, and when it lets the consumer commit."""

from __future__ import annotations

import ast
import asyncio
import base64
import json
import sys
import traceback
import uuid
from collections import namedtuple
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from confluent_kafka import TIMESTAMP_CREATE_TIME, Message
from redrive_producer import MAX_STACKTRACE, MAX_TEXT, NotConfirmedError, Redrive, json_of, origin_of, to_celery, to_sqs

PRODUCERS = Path(__file__).parents[2] / "producers" / "python"

QUEUE_URL = "https://sqs.eu-west-1.amazonaws.com/123456789012/employees-dlq"
BODY = b'{"employeeId": 1234}'


class StaleDataError(Exception):
    """What an optimistic lock raises."""


class Recording:
    """A client, or an application, that keeps what it is told, or fails."""

    def __init__(self, *, error: Exception | None = None, answer: Any = None) -> None:
        self.sent: list[dict[str, Any]] = []
        self._error = error
        self._answer = {"MessageId": "m-1"} if answer is None else answer

    def send_message(self, **message: Any) -> Any:
        if self._error:
            raise self._error
        self.sent.append(message)
        return self._answer

    def send_task(self, name: str, **options: Any) -> None:
        self.send_message(name=name, **options)


def a_message(value: Any = BODY, **changed: Any) -> Message:
    fields = {"topic": "employees", "partition": 0, "offset": 17, "key": b"1234", "timestamp": (TIMESTAMP_CREATE_TIME, 5)}
    return Message(value=value, **(fields | changed))


def conflict(message: Any) -> None:
    raise StaleDataError(f"{message} was written meanwhile")


def producer(**rest: Any) -> tuple[Recording, Redrive]:
    client = Recording()
    return client, Redrive(to_sqs(client, QUEUE_URL), catch=StaleDataError, **rest)


# --- the file ---------------------------------------------------------------------------------------------------------


def test_the_file_stands_alone_in_python_3_9():
    source = (PRODUCERS / "redrive_producer.py").read_text()
    tree = ast.parse(source, feature_version=(3, 9))
    imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.split(".")[0] for name in imported} <= sys.stdlib_module_names
    assert "# SPDX-License-Identifier: Apache-2.0" in source.splitlines()[:5]


# --- what is sent, and when the consumer may commit -------------------------------------------------------------------


def test_a_failure_is_sent_and_swallowed():
    client, redrive = producer(group="payroll")
    with redrive.handling(a_message()):
        conflict(1234)
    [sent] = client.sent
    assert sent == {
        "QueueUrl": QUEUE_URL,
        "MessageBody": BODY.decode(),
        "MessageAttributes": {
            name: {"DataType": "String", "StringValue": value}
            for name, value in {
                "topic": "employees",
                "partition": "0",
                "offset": "17",
                "timestamp": "5",
                "key": "1234",
                "group": "payroll",
                "exception": f"{__name__}.StaleDataError",
                "message": "1234 was written meanwhile",
            }.items()
        },
    }


def test_a_decorated_handler_keeps_its_face_and_its_answer():
    client, redrive = producer()

    @redrive.handler
    def handle(message: Any, *, fail: bool = False) -> str:
        """Handle."""
        if fail:
            conflict(message)
        return f"handled {message}"

    assert (handle.__name__, handle.__doc__) == ("handle", "Handle.")
    assert handle("a") == "handled a"
    assert client.sent == []
    assert handle("a", fail=True) is None
    assert len(client.sent) == 1


@pytest.mark.parametrize("error", [KeyError("no such column"), KeyboardInterrupt(), SystemExit(1)])
def test_what_is_not_to_be_caught_passes(error: BaseException):
    client, redrive = producer()
    with pytest.raises(type(error)) as raised, redrive.handling(a_message()):
        raise error
    assert raised.value is error
    assert client.sent == []


def test_by_default_every_exception_is_caught_but_no_end_of_the_process():
    client = Recording()
    redrive = Redrive(to_sqs(client, QUEUE_URL))
    with redrive.handling(a_message()):
        raise KeyError
    assert len(client.sent) == 1
    with pytest.raises(KeyboardInterrupt), redrive.handling(a_message()):
        raise KeyboardInterrupt


def test_when_the_send_fails_the_handlers_exception_is_raised_with_the_reason(caplog: pytest.LogCaptureFixture):
    redrive = Redrive(to_sqs(Recording(error=ConnectionError("SQS is away")), QUEUE_URL), catch=StaleDataError)
    with pytest.raises(StaleDataError) as raised, redrive.handling(a_message()):
        conflict(1)
    assert isinstance(raised.value.__context__, ConnectionError)
    assert "SQS is away" in "".join(traceback.format_exception(raised.value))
    assert "ConnectionError: SQS is away" in caplog.text


def test_when_the_send_fails_the_handlers_exception_keeps_its_own_cause():
    redrive = Redrive(to_sqs(Recording(error=ConnectionError("SQS is away")), QUEUE_URL))
    with pytest.raises(StaleDataError) as raised, redrive.handling(a_message()):
        raise chained(how="from")
    assert isinstance(raised.value.__cause__, KeyError)
    assert isinstance(raised.value.__context__, ConnectionError)


def test_a_send_that_is_not_confirmed_has_failed():
    redrive = Redrive(to_sqs(Recording(answer=object()), QUEUE_URL))
    with pytest.raises(StaleDataError) as raised, redrive.handling(a_message()):
        conflict(1)
    assert isinstance(raised.value.__context__, NotConfirmedError)


def test_what_makes_the_body_may_fail_too():
    redrive = Redrive(to_sqs(Recording(), QUEUE_URL, body=lambda message: {"employeeId": message["employee"]}))
    with pytest.raises(StaleDataError) as raised, redrive.handling({"employeeId": 1}):
        conflict(1)
    assert isinstance(raised.value.__context__, KeyError)


def test_what_was_handed_over_is_logged_without_its_content(caplog: pytest.LogCaptureFixture):
    _, redrive = producer()
    with redrive.handling(a_message(b'{"name": "secret"}')):
        conflict("secret")
    assert caplog.messages == [f"{__name__}.StaleDataError at employees/0/17 was handed to Redrive"]


# --- coroutines -------------------------------------------------------------------------------------------------------


def test_coroutines_are_handled_alike():
    client, redrive = producer()

    @redrive.handler
    async def handle(message: Any) -> str:
        await asyncio.sleep(0)
        if message.offset() == 17:
            conflict(1)
        return "handled"

    async def consume() -> list[Any]:
        async with redrive.handling(a_message()):
            conflict(2)
        return [await handle(a_message()), await handle(a_message(offset=18))]

    assert asyncio.run(consume()) == [None, "handled"]
    assert [each["MessageAttributes"]["message"]["StringValue"][0] for each in client.sent] == ["2", "1"]


def test_a_coroutines_exception_is_raised_when_the_send_fails():
    redrive = Redrive(to_sqs(Recording(error=ConnectionError("away")), QUEUE_URL))

    @redrive.handler
    async def handle(message: Any) -> None:
        conflict(message)

    with pytest.raises(StaleDataError) as raised:
        asyncio.run(handle(a_message()))
    assert isinstance(raised.value.__context__, ConnectionError)


# --- the origin -------------------------------------------------------------------------------------------------------

KafkaPythonRecord = namedtuple(  # noqa: PYI024 - kafka-python's own, shortened
    "KafkaPythonRecord", ["topic", "partition", "offset", "timestamp", "timestamp_type", "key", "value", "headers"]
)


@dataclass(frozen=True)
class AiokafkaRecord:
    """aiokafka's own, shortened."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: Any
    value: Any


PLACE = {"topic": "employees", "partition": 0, "offset": 17, "timestamp": 5, "key": "1234"}
EXCEPTION = {"exception": "ValueError", "message": "no"}


@pytest.mark.parametrize(
    ("message", "known"),
    [
        (a_message(), PLACE),
        (KafkaPythonRecord("employees", 0, 17, 5, 0, b"1234", BODY, []), PLACE),
        (AiokafkaRecord("employees", 0, 17, 5, "1234", BODY), PLACE),
        (Message(topic="employees"), {"topic": "employees"}),
        (KafkaPythonRecord("t", 0, 0, -1, 0, None, None, []), {"topic": "t", "partition": 0, "offset": 0}),
        (SimpleNamespace(topic="t", key=b"\xff\x00"), {"topic": "t", "key": base64.b64encode(b"\xff\x00").decode()}),
        (SimpleNamespace(topic="a\0b\ud800", key={"id": 1}, partition="x"), {"topic": "a\ufffdb\ufffd", "key": "{'id': 1}"}),
        ({"topic": "not an attribute"}, {}),
        ("text has a partition() of its own", {}),
        (b"bytes too", {}),
        (None, {}),
    ],
)
def test_the_origin_is_what_the_message_knows(message: Any, known: dict[str, Any]):
    assert origin_of(message, ValueError("no")) == known | EXCEPTION


def chained(*, how: str) -> StaleDataError:
    """Return a conflict that was raised from, or while handling, a KeyError."""
    try:
        try:
            {}["first"]
        except KeyError as first:
            if how == "in context":
                raise StaleDataError  # noqa: B904 - the case
            raise StaleDataError from (first if how == "from" else None)
    except StaleDataError as error:
        return error


@pytest.mark.parametrize(("how", "cause"), [("from", "KeyError"), ("in context", "KeyError"), ("from none", None)])
def test_the_cause_is_told_where_python_would_show_it(how: str, cause: str | None):
    assert origin_of(None, chained(how=how)).get("cause") == cause


def test_texts_are_cut_and_of_a_stack_trace_the_end_stays():
    told = origin_of(None, ValueError("x" * 10_000 + "the end"), stacktrace=True)
    assert (len(told["message"]), told["message"][-1]) == (MAX_TEXT, "…")
    assert len(told["stacktrace"]) == MAX_STACKTRACE
    assert told["stacktrace"].endswith("xthe end\n")


def test_an_exception_that_cannot_speak_is_told_by_its_class():
    class MuteError(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    client, redrive = producer()
    redrive = Redrive(to_sqs(client, QUEUE_URL))
    with redrive.handling(None):
        raise MuteError
    assert list(client.sent[0]["MessageAttributes"]) == ["exception"]


def test_all_that_can_be_told_is_within_the_ten_attributes_of_sqs():
    client, redrive = producer(group="payroll", stacktrace=True)
    with redrive.handling(a_message()):
        raise chained(how="from")
    assert len(client.sent[0]["MessageAttributes"]) == 9, "all but the message, which is empty here"
    with redrive.handling(a_message()):
        conflict(1)
    assert set(client.sent[0]["MessageAttributes"]) | set(client.sent[1]["MessageAttributes"]) == {
        *("topic", "partition", "offset", "timestamp", "key", "group", "exception", "cause", "message", "stacktrace")
    }


# --- the body ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "body"),
    [
        (BODY, BODY.decode()),
        (bytearray(BODY), BODY.decode()),
        ('{"name": "Ä"}', '{"name": "Ä"}'),
        ({"employeeId": 1, "at": uuid.UUID(int=1)}, '{"employeeId": 1, "at": "00000000-0000-0000-0000-000000000001"}'),
        ([1, 2], "[1, 2]"),
        (None, "null"),
        (memoryview(BODY), BODY.decode()),
        (b"", '{"text": ""}'),
        ("", '{"text": ""}'),
        (b"\xff\x00", '{"base64": "/wA="}'),
        (bytearray(b"\xff\x00"), '{"base64": "/wA="}'),
        (memoryview(b"\xff\x00"), '{"base64": "/wA="}'),
        (base64.b64decode("11" * 6), '{"base64": "111111111111"}'),
        ("not JSON", "not JSON"),
    ],
)
def test_the_body_is_the_messages_own_value(value: Any, body: str):
    assert json_of(SimpleNamespace(value=value)) == body
    assert json_of(SimpleNamespace(value=lambda: value)) == body
    assert json_of(value) == body


@pytest.mark.parametrize("character", ["\ufffe", "\uffff", "\ud800"])
def test_what_sqs_refuses_in_a_json_text_is_written_another_way(character: str):
    body = json_of(f'{{"name": "{character}"}}')
    assert body.isascii()
    assert json.loads(body) == {"name": character}


@pytest.mark.parametrize(
    "text", ['{"id": "\x01"}', '"\\\ufffe"', '{"id": 1}\x00', "\ufffe", '{"id": 1, \ud800', "[" * 100_000 + "\ufffe"]
)
def test_what_is_no_json_is_never_made_json_by_escaping_what_sqs_refuses(text: str):
    body = json_of(text)
    assert body.isascii()
    assert json.loads(body) == {"text": text}


def test_a_long_number_beside_what_sqs_refuses_is_json():
    assert json_of("[" + "9" * 5000 + ', "\ufffe"]') == "[" + "9" * 5000 + ', "\\ufffe"]'


def test_a_callable_makes_the_body():
    client = Recording()
    redrive = Redrive(to_sqs(client, QUEUE_URL, body=lambda message: {"employeeId": int(message.key())}))
    with redrive.handling(a_message(b"avro")):
        conflict(1)
    assert client.sent[0]["MessageBody"] == '{"employeeId": 1234}'


def test_two_failures_on_a_fifo_queue_are_never_one():
    client = Recording()
    redrive = Redrive(to_sqs(client, QUEUE_URL + ".fifo"))
    for _ in range(2):
        with redrive.handling(a_message()):
            conflict(1)
    assert len({each["MessageDeduplicationId"] for each in client.sent}) == 2
    assert all(each["MessageGroupId"] for each in client.sent)


# --- redrive.submit ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("found", "submitted"),
    [
        ({"employeeId": 1}, [{"employeeId": 1}]),
        ([{"employeeId": 1}, {"employeeId": 2}], [{"employeeId": 1}, {"employeeId": 2}]),
        (({"employeeId": each} for each in (1, 2)), [{"employeeId": 1}, {"employeeId": 2}]),
        ([], [{}]),
    ],
)
def test_each_entity_is_a_submission_and_a_message_about_none_is_kept_too(found: Any, submitted: list[dict[str, int]]):
    app = Recording()
    redrive = Redrive(to_celery(app, "employees", lambda _message: found))
    with redrive.handling(a_message()):
        raise ValueError("no")
    assert app.sent == [
        {
            "name": "redrive.submit",
            "kwargs": {"route": "employees", "parameters": each, "origin": PLACE | EXCEPTION},
            "queue": "redrive-submit",
            "serializer": "json",
            "ignore_result": True,
        }
        for each in submitted
    ]


@pytest.mark.parametrize("found", [None, "1234", [1]])
def test_parameters_that_are_none_let_the_handlers_exception_through(found: Any):
    app = Recording()
    with pytest.raises(StaleDataError), Redrive(to_celery(app, "employees", lambda _message: found)).handling(None):
        conflict(1)
    assert app.sent == []
