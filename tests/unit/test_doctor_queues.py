"""What the doctor makes of queues."""

from __future__ import annotations

import json

import pytest

from tasks.adapters.sqs import SqsQueue
from tasks.doctor.findings import State
from tasks.doctor.queues import judge_queue

OK, WARNING, WRONG = State

POLICY = json.dumps({"deadLetterTargetArn": "arn:aws:sqs:us-east-1:1:redrive-recovery-dead", "maxReceiveCount": "5"})
GOOD = {"VisibilityTimeout": "300", "MessageRetentionPeriod": "1209600", "RedrivePolicy": POLICY}
RECOVERY = SqsQueue(source="", queue="redrive-recovery")


@pytest.mark.parametrize(
    ("attributes", "waiting", "state", "told"),
    [
        (GOOD, 0, OK, "hides 300 s, keeps 14 days, dead letters to redrive-recovery-dead"),
        ({"VisibilityTimeout": "300", "RedrivePolicy": POLICY}, None, OK, "hides 300 s"),  # ElasticMQ keeps for ever
        ({**GOOD, "VisibilityTimeout": "39"}, 0, WRONG, "hides a message for 39 s, a worker may be busy for 40 s"),
        ({**GOOD, "RedrivePolicy": ""}, 0, WRONG, "no dead-letter queue"),
        ({**GOOD, "MessageRetentionPeriod": "86400"}, 0, WARNING, "keeps a message for 1.0 days only"),
        (GOOD, 3, WARNING, "3 messages in redrive-recovery-dead"),
    ],
)
def test_a_queue(attributes: dict[str, str], waiting: int | None, state: State, told: str):
    found = judge_queue(RECOVERY, attributes, waiting=waiting, visibility=40.0)
    assert (found.name, found.state) == ("redrive-recovery", state)
    assert found.detail.startswith(told)
    assert bool(found.hint) == (state is not OK)


def test_a_source_is_called_by_its_name():
    source = SqsQueue(source="x", queue="https://sqs.us-east-1.amazonaws.com/1/x-dlq")
    found = judge_queue(source, GOOD, waiting=0)
    assert found.name == "source x"
    assert found.detail.startswith("x-dlq: hides 300 s")
