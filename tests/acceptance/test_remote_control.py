"""Remote control over a real Redis: what a worker answers, what it refuses, and that nothing breaks the listening."""

from __future__ import annotations

import json
import select
import socket
import socketserver
import threading
from typing import TYPE_CHECKING, Any

import pytest
import redis
from celery.worker.state import revoked
from side_channel import SECRETS, Redis, Worker, answer, running
from waiting import until

from tasks.devstack.redis import EmbeddedRedis
from tasks.monitoring import remote_control
from tasks.monitoring.channel import connect

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tasks.devstack.sqs import EmbeddedSqs


pytestmark = pytest.mark.xdist_group("remote_control")  # one process has the parts that its tests share


@pytest.fixture(scope="module")
def shared(sqs: EmbeddedSqs) -> Iterator[tuple[Redis, Worker]]:
    """One Redis and one worker for the tests that harm neither."""
    with EmbeddedRedis() as server, running(sqs, server.url) as worker:
        yield Redis(server), worker
    revoked.clear()


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        ("shutdown", {}),
        ("pool_restart", {"modules": ["os"], "reload": True}),
        ("pool_grow", {"n": 5}),
        ("pool_shrink", {"n": 1}),
        ("autoscale", {"max": 9, "min": 1}),
        ("rate_limit", {"task_name": "side.touch", "rate_limit": "1/h"}),
        ("time_limit", {"task_name": "side.touch", "hard": 0.1}),
        ("add_consumer", {"queue": "employees-dlq"}),
        ("cancel_consumer", {"queue": "celery"}),
        ("disable_events", {}),
        ("terminate", {"task_id": "a", "signal": "KILL"}),
        ("revoke", {"task_id": "a", "terminate": True}),
        ("revoke_by_stamped_headers", {"headers": {"a": "b"}, "terminate": True}),
        ("report", {}),
        ("memdump", {}),
        ("objgraph", {}),
        ("__class__", {}),
    ],
)
def test_other_commands_are_refused(shared: tuple[Redis, Worker], command: str, arguments: Mapping[str, Any]):
    side, worker = shared
    assert answer(side.url, command, **arguments)["error"].startswith("refused: ")
    assert "a" not in revoked
    worker.works(7)


def test_a_revoked_task_does_not_run(shared: tuple[Redis, Worker]):
    side, worker = shared
    assert "1 flagged as revoked" in answer(side.url, "revoke", task_id="never")["ok"]
    assert answer(side.url, "revoked") == ["never"]
    worker.touch.apply_async((1,), task_id="never")
    worker.works(2)
    assert worker.done.empty()


@pytest.mark.parametrize("ids", ["", [], [""], [1], {"a": 1}])
def test_revoke_takes_ids_only(shared: tuple[Redis, Worker], ids: Any):
    before = set(revoked)
    assert "error" in answer(shared[0].url, "revoke", task_id=ids)
    assert set(revoked) - {"a"} == before


def test_what_a_worker_tells_of_itself_holds_no_secret(shared: tuple[Redis, Worker]):
    side, worker = shared
    told = {
        command: answer(side.url, command)
        for command in ("ping", "stats", "conf", "active", "reserved", "scheduled", "revoked", "active_queues", "registered")
    }
    told["registered"] = answer(side.url, "registered", taskinfoitems=["secret", "app"])
    assert "side.touch" in told["registered"]
    assert "sqs" in told["stats"]["broker"]["transport"].lower()
    assert told["conf"]["worker_send_task_events"] is True
    assert [each["name"] for each in told["active_queues"]] == [worker.app.conf.task_default_queue]
    assert not [secret for secret in SECRETS if secret in json.dumps(told)]
    worker.works(3)


@pytest.mark.parametrize(
    "body",
    [
        None,
        [],
        {},
        {"method": None},
        {"method": "ping", "arguments": {"no": "such"}},
        {"method": "ping", "arguments": [1]},
        {"method": "ping", "reply_to": {}, "ticket": 1},
        {"method": "ping", "destination": 3},
    ],
)
def test_rubbish_is_dropped(shared: tuple[Redis, Worker], body: Any):
    side, _ = shared
    assert answer(side.url, "ping") == {"ok": "pong"}
    with connect(side.url) as connection:
        producer = connection.Producer()
        for content_type in ("application/json", "application/x-python-serialize", "rubbish"):
            producer.publish(
                json.dumps(body), exchange="celery.pidbox", content_type=content_type, content_encoding="utf-8", serializer=None
            )
    with redis.Redis.from_url(side.url) as client:
        client.publish("/0.celery.pidbox", "no envelope")
    assert answer(side.url, "ping") == {"ok": "pong"}


class Muffler(socketserver.ThreadingTCPServer):
    """Stands before a Redis and can swallow what is said to the present subscribers, leaving their connections open."""

    daemon_threads = True
    subscribers = 0
    deaf_up_to = 0

    def __init__(self, port: int) -> None:
        self.upstream = ("127.0.0.1", port)
        super().__init__(("127.0.0.1", 0), Relay)
        self.url = f"redis://127.0.0.1:{self.server_address[1]}/0"


class Relay(socketserver.BaseRequestHandler):
    server: Muffler

    def handle(self) -> None:
        number = 0
        with socket.create_connection(self.server.upstream) as upstream:
            sides = [self.request, upstream]
            while True:
                for side in select.select(sides, [], [])[0]:
                    data = side.recv(65536)
                    if not data:
                        return
                    if side is self.request and b"SUBSCRIBE" in data and not number:
                        self.server.subscribers += 1
                        number = self.server.subscribers
                    if side is self.request or not 0 < number <= self.server.deaf_up_to:
                        (upstream if side is self.request else self.request).sendall(data)


def test_a_listener_notices_a_subscription_that_died_in_silence(sqs: EmbeddedSqs, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(remote_control, "PING_INTERVAL", 0.1)
    monkeypatch.setattr(remote_control, "SILENCE", 0.3)
    with EmbeddedRedis() as server, Muffler(server.port) as muffler:
        threading.Thread(target=muffler.serve_forever, daemon=True).start()
        with running(sqs, muffler.url):
            assert answer(server.url, "ping") == {"ok": "pong"}
            muffler.deaf_up_to = deaf = muffler.subscribers
            until(lambda: muffler.subscribers > deaf)
            assert answer(server.url, "ping") == {"ok": "pong"}
        muffler.shutdown()
