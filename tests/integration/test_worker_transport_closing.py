"""What becomes of messages that a worker holds when its channel closes: SQS has them still, and no file gets them."""

from __future__ import annotations

import tempfile
from typing import TYPE_CHECKING, Any

import pytest
import structlog.testing
from botocore.exceptions import ConnectionClosedError
from kombu import Connection, Queue
from kombu.transport import SQS

from tasks.devstack import child
from tasks.devstack.sqs import EmbeddedSqs
from tasks.worker.transport import Transport

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

BODY = "c4n4ry"
OPTIONS = {
    "region": "us-east-1",
    "wait_time_seconds": 0,
    "client-config": {"connect_timeout": 1, "read_timeout": 2, "retries": {"total_max_attempts": 1}},
}


@pytest.fixture
def sqs() -> Iterator[EmbeddedSqs]:
    """One of its own: it is stopped meanwhile."""
    with EmbeddedSqs() as server:
        yield server


@pytest.fixture
def folder(tmp_path: Path, sqs: EmbeddedSqs, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where this process puts temporary files from now on."""
    assert sqs.port
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def holding_a_message(sqs: EmbeddedSqs) -> Connection:
    """Return a connection whose one channel has received a message, and not acknowledged it."""
    connection = Connection(f"sqs://local:only-here@127.0.0.1:{sqs.port}", transport=Transport, transport_options=OPTIONS)
    channel = connection.default_channel
    Queue("closing", channel=channel, routing_key="closing").declare()
    producer = connection.Producer(channel, serializer="json")
    producer.publish([[BODY], {}, {}], headers={"task": "redrive.submit", "id": "7"}, routing_key="closing")
    assert channel.basic_get("closing") is not None
    assert len(channel.qos._delivered) == 1
    return connection


def test_while_sqs_is_away_no_message_is_written_into_a_file(sqs: EmbeddedSqs, folder: Path, caplog: pytest.LogCaptureFixture):
    connection = holding_a_message(sqs)
    child.stop([sqs.process], grace=0)
    with structlog.testing.capture_logs() as logs:
        connection.close()
    assert list(folder.iterdir()) == [], "kombu's EMERGENCY DUMP has the messages' content"
    (told,) = logs
    assert told["event"] == "message_not_returned"
    assert "EMERGENCY" not in caplog.text


def test_what_was_not_acknowledged_is_handed_out_again_at_once_and_not_doubled(sqs: EmbeddedSqs, folder: Path):
    holding_a_message(sqs).close()
    assert list(folder.iterdir()) == []
    with Connection(f"sqs://local:only-here@127.0.0.1:{sqs.port}", transport=Transport, transport_options=OPTIONS) as connection:
        channel = connection.default_channel
        Queue("closing", channel=channel, routing_key="closing").declare()
        again = channel.basic_get("closing")
        assert again is not None
        again.ack()
        assert channel.basic_get("closing") is None


@pytest.mark.parametrize("broken", [ConnectionClosedError(endpoint_url=""), KeyError("QueueUrl")], ids=["closed", "cut off"])
@pytest.mark.parametrize(("at", "when"), [("_update_queue_cache", 2), ("_size", 1)])
def test_a_connection_that_breaks_while_the_queue_is_looked_up_costs_a_second_try(
    sqs: EmbeddedSqs, monkeypatch: pytest.MonkeyPatch, at: str, when: int, broken: Exception
):
    url = f"sqs://local:only-here@127.0.0.1:{sqs.port}"
    asked = []

    def look_up(channel: SQS.Channel, *args: Any) -> Any:
        asked.append(args)
        if len(asked) == when:
            raise broken
        return asked_for(channel, *args)

    asked_for = getattr(SQS.Channel, at)
    monkeypatch.setattr(SQS.Channel, at, look_up)
    with Connection(url, transport=Transport, transport_options=OPTIONS) as connection:
        producer = connection.Producer(serializer="json")
        sent = {"headers": {"task": "redrive.submit", "id": "7"}, "declare": [Queue("looked-up", routing_key="looked-up")]}
        producer.publish([[BODY], {}, {}], routing_key="looked-up", retry=True, retry_policy={"max_retries": 2}, **sent)
        assert len(asked) > when
        assert connection.default_channel.basic_get("looked-up") is not None
