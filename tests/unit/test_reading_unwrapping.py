"""What transports put around a body, and what is no such thing."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from tasks.dlq.errors import UnreadableBody
from tasks.dlq.json_body import read_json
from tasks.dlq.reading.unwrapping import STEPS, unwrap

BODY = {"employeeId": 1234, "text": "ä\ud800\0"}


def raw(document: Any) -> bytes:
    return json.dumps(document).encode()


def sns(message: str) -> dict[str, Any]:
    return {"Type": "Notification", "MessageId": "m", "TopicArn": "arn:aws:sns:us-east-1:1:t", "Message": message}


WRAPPED = {
    "sns": raw(sns(json.dumps(BODY))),
    "sns to a function": raw({"Records": [{"EventSource": "aws:sns", "Sns": sns(json.dumps(BODY))}]}),
    "lambda": raw({"version": "1.0", "requestContext": {"condition": "RetriesExhausted"}, "requestPayload": BODY}),
    "eventbridge": raw({"version": "0", "detail-type": "employee changed", "source": "hr", "detail": BODY}),
    "base64": base64.encodebytes(raw(BODY)),
}


@pytest.mark.parametrize("wrapping", WRAPPED)
def test_each_step_takes_off_its_own(wrapping: str):
    body = unwrap(WRAPPED[wrapping], [wrapping.partition(" ")[0]], max_bytes=10_000)
    assert read_json(body, max_bytes=10_000) == BODY


def test_steps_are_taken_in_order():
    twice = raw(sns(base64.b64encode(WRAPPED["lambda"]).decode()))
    assert read_json(unwrap(twice, ["sns", "base64", "lambda"], max_bytes=10_000), max_bytes=10_000) == BODY
    with pytest.raises(UnreadableBody):
        unwrap(twice, ["base64", "sns", "lambda"], max_bytes=10_000)


def test_without_steps_the_bytes_are_the_same():
    assert unwrap(b"\xff", [], max_bytes=1) == b"\xff"


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"no json!",
        b'"text"',
        raw(BODY),
        raw({"Type": "SubscriptionConfirmation", "Message": "{}"}),
        raw({"Type": "Notification", "Message": 5}),
        raw({"Records": [{"Sns": sns("{}")}, {"Sns": sns("{}")}]}),
        raw({"requestPayload": BODY}),
        raw({"detail": BODY}),
        b"[" * 100_000,
        b"A" * 30_000,
    ],
)
def test_what_is_not_wrapped_is_unreadable(step: str, body: bytes):
    if (step, body) == ("base64", b""):
        return  # nothing is the base64 of nothing; reading it says "empty"
    with pytest.raises(UnreadableBody):
        unwrap(body, [step], max_bytes=10_000)
