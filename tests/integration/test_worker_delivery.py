"""The doorbell when SQS refuses or is gone: one kind of error, whatever the libraries raise."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from celery import Celery
from doubles.http_server import Handler, LoopbackServer

from tasks.devstack import child
from tasks.dlq.errors import BrokerUnavailable
from tasks.worker.delivery import CeleryWakeupSender, send_if_possible

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def refusing() -> Iterator[int]:
    """The port of an SQS that knows us and lets us do nothing."""

    class Refuse(Handler):
        def do_POST(self) -> None:
            self.body()
            body = b'{"__type":"com.amazonaws.sqs#AccessDeniedException","message":"no"}'
            self.answer(403, body, {"Content-Type": "application/x-amz-json-1.0"})

    with LoopbackServer(Refuse) as server:
        yield server.server_port


def app_at(port: int) -> Celery:
    app = Celery("test", broker=f"sqs://local:only-here@127.0.0.1:{port}", set_as_current=False)
    app.conf.task_publish_retry = False
    app.conf.broker_transport_options = {
        "region": "us-east-1",
        "is_secure": False,
        "client-config": {"connect_timeout": 1, "read_timeout": 1, "retries": {"total_max_attempts": 1}},
    }
    return app


def test_a_broker_that_refuses_is_unavailable(refusing: int):
    with pytest.raises(BrokerUnavailable):
        CeleryWakeupSender(app_at(refusing)).send(1, delay=0.0)


def test_a_broker_that_is_gone_is_unavailable():
    with pytest.raises(BrokerUnavailable):
        CeleryWakeupSender(app_at(child.free_port())).send(1, delay=0.0)


def test_what_a_sweep_sends_anyway_is_no_reason_to_fail(refusing: int):
    send_if_possible(app_at(refusing), "redrive.watch")
