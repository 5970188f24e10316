"""The side channel over a real Redis: what a worker tells, what it may be asked, and that it never waits for it."""

from __future__ import annotations

import json
import logging
import queue
import select
import signal
import socket
import socketserver
import subprocess
import threading
import time
from contextlib import contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import click
import pytest
import redis
from celery import Celery
from celery.contrib.testing.worker import start_worker
from celery.worker.state import revoked
from kombu.exceptions import OperationalError

from tasks.devstack import child
from tasks.devstack.redis import EmbeddedRedis
from tasks.devstack.sqs import EmbeddedSqs
from tasks.monitoring import attach, flower_command, remote_control
from tasks.monitoring.channel import connect, verified
from tasks.monitoring.events import Outbox
from tasks.monitoring.flower import side_channel_option

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

PATIENCE = 30.0
SECRETS = {"AKIASECRETKEY", "sekret", "s3cret"}


def until(look: Callable[[], Any]) -> Any:
    """Return the first true answer of `look`."""
    patience = time.monotonic() + PATIENCE
    while not (seen := look()):
        assert time.monotonic() < patience, f"not in {PATIENCE} s"
        time.sleep(0.02)
    return seen


class Redis:
    """A Redis that can die, come back at the same address, and freeze: a frozen one takes connections and never answers."""

    def __init__(self, server: EmbeddedRedis) -> None:
        self.server = server
        self.url = server.url
        self.process = server.process

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def revive(self) -> None:
        self.process = child.spawn(self.server._command(), env={}, output=subprocess.DEVNULL, cwd=self.server.directory)

        def answers() -> bool:
            try:
                return self.server._answers()
            except OSError:
                return False

        until(answers)

    def freeze(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)


@pytest.fixture(scope="module")
def sqs() -> Iterator[EmbeddedSqs]:
    with EmbeddedSqs() as server:
        yield server


@pytest.fixture
def side() -> Iterator[Redis]:
    with EmbeddedRedis() as server:
        made = Redis(server)
        yield made
        child.stop([made.process], grace=0)


class Worker:
    """A Celery worker on SQS, in a thread of the test."""

    def __init__(self, sqs: EmbeddedSqs, url: str) -> None:
        self.done: queue.Queue[int] = queue.Queue()
        self.app = Celery("redrive", set_as_current=False)
        self.app.conf.update(
            broker_url=f"sqs://AKIASECRETKEY:sekret@127.0.0.1:{sqs.port}",
            broker_transport_options={"region": sqs.region, "is_secure": False, "polling_interval": 0.02, "wait_time_seconds": 1},
            task_default_queue=f"celery-{uuid4()}",
            worker_enable_remote_control=False,
            worker_send_task_events=True,
            worker_hijack_root_logger=False,
            broker_connection_retry_on_startup=True,
            task_ignore_result=True,
        )
        attach(self.app, url)

        @self.app.task(name="redrive.recover", secret="s3cret", shared=False)
        def touch(number: int) -> None:
            self.done.put(number)

        self.touch = touch

    def works(self, number: int) -> None:
        """Let one task run."""
        self.touch.delay(number)
        assert self.done.get(timeout=PATIENCE) == number


@contextmanager
def running(sqs: EmbeddedSqs, url: str) -> Iterator[Worker]:
    worker = Worker(sqs, url)
    options = {"without_heartbeat": False, "heartbeat_interval": 0.2, "loglevel": "WARNING"}
    with start_worker(worker.app, perform_ping_check=False, **options) as controller:
        worker.controller = controller
        worker.hostname = controller.hostname
        yield worker


@contextmanager
def watching(url: str, see: Callable[[dict[str, Any]], None] | None = None) -> Iterator[Any]:
    """Do what Flower does: keep Celery's picture of the cluster up to date, and reconnect on failure."""
    app = Celery("watcher", broker=url, set_as_current=False)
    state = app.events.State()
    ended = threading.Event()

    class Receiver(app.events.Receiver):
        should_stop = property(lambda _: ended.is_set())

    def watch() -> None:
        while not ended.is_set():
            try:
                with app.connection_for_read() as connection:
                    Receiver(connection, handlers={"*": see or state.event}).capture(limit=None, timeout=None, wakeup=True)
            except (OSError, OperationalError, redis.RedisError):
                ended.wait(0.1)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    with redis.Redis.from_url(url) as client:
        until(client.pubsub_numpat)
    yield state
    ended.set()
    thread.join(PATIENCE)


def ask(url: str, command: str, **arguments: Any) -> list[dict[str, Any]]:
    """Broadcast a command and return the answers of the workers."""
    app = Celery("watcher", broker=url, set_as_current=False)
    with app.connection_for_write() as connection:
        answers: list[dict[str, Any]] = app.control.broadcast(
            command, arguments=arguments, reply=True, limit=1, timeout=1, connection=connection
        )
    app.close()
    return answers


def answer(url: str, command: str, **arguments: Any) -> Any:
    """Ask until the one worker answers; it may still be about to listen."""
    answers = until(lambda: ask(url, command, **arguments))
    return next(iter(answers[0].values()))


def task_states(state: Any) -> dict[str, str]:
    return {task.args or "": task.state for task in dict(state.tasks).values()}


def test_a_worker_is_seen_with_its_finished_tasks(sqs: EmbeddedSqs, side: Redis):
    with running(sqs, side.url) as worker, watching(side.url) as state:
        until(lambda: worker.hostname in state.workers)
        worker.works(1)
        assert until(lambda: task_states(state).get("(1,)") == "SUCCESS")
        assert state.workers[worker.hostname].alive


def test_the_last_words_of_a_worker_arrive(sqs: EmbeddedSqs, side: Redis):
    with watching(side.url) as state:
        with running(sqs, side.url) as worker:
            until(lambda: worker.hostname in state.workers)
        until(lambda: not state.workers[worker.hostname].alive)


def test_tasks_go_on_while_redis_is_dead_and_all_comes_back_by_itself(sqs: EmbeddedSqs, side: Redis):
    with running(sqs, side.url) as worker, watching(side.url) as state:
        until(lambda: worker.hostname in state.workers)
        side.kill()
        for number in range(20):
            worker.works(number)
        side.revive()
        assert answer(side.url, "ping") == {"ok": "pong"}
        worker.works(100)
        until(lambda: task_states(state).get("(100,)") == "SUCCESS")


def test_tasks_go_on_while_redis_takes_bytes_and_never_answers(sqs: EmbeddedSqs, side: Redis, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(remote_control, "PULSE", 0.2)
    monkeypatch.setattr(remote_control, "SILENCE", 0.6)
    with running(sqs, side.url) as worker, watching(side.url) as state:
        until(lambda: worker.hostname in state.workers)
        side.freeze()
        for number in range(20):
            worker.works(number)
        side.thaw()
        assert answer(side.url, "ping") == {"ok": "pong"}
        worker.works(100)
        until(lambda: task_states(state).get("(100,)") == "SUCCESS")


def test_a_worker_starts_and_stops_without_redis(sqs: EmbeddedSqs, side: Redis, caplog: pytest.LogCaptureFixture):
    side.kill()
    with caplog.at_level(logging.WARNING, logger="tasks.monitoring"), running(sqs, side.url) as worker:
        until(lambda: sum("Redis is away" in record.message for record in caplog.records) == 2)
        worker.works(1)
    assert sum("Redis is away" in record.message for record in caplog.records) == 2  # once for each thread, not once a try


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


def test_a_listener_notices_a_subscription_that_died_in_silence(sqs: EmbeddedSqs, side: Redis, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(remote_control, "PULSE", 0.1)
    monkeypatch.setattr(remote_control, "SILENCE", 0.3)
    with Muffler(side.server.port) as muffler:
        threading.Thread(target=muffler.serve_forever, daemon=True).start()
        with running(sqs, muffler.url):
            assert answer(side.url, "ping") == {"ok": "pong"}
            muffler.deaf_up_to = deaf = muffler.subscribers
            until(lambda: muffler.subscribers > deaf)
            assert answer(side.url, "ping") == {"ok": "pong"}
        muffler.shutdown()


def test_an_outbox_keeps_the_newest_and_no_more_than_its_limit(side: Redis):
    outbox = Outbox(side.url, exchange="celeryev", limit=10)
    for number in range(100):
        outbox.publish({"type": "task-custom", "number": number}, routing_key="task.custom")
    assert len(outbox) == 10
    seen: list[dict[str, Any]] = []
    with watching(side.url, seen.append):
        outbox.start()
        until(lambda: len(seen) == 10)
    assert [event["number"] for event in seen] == list(range(90, 100))


def test_an_event_that_is_no_json_does_not_stop_the_others(side: Redis, caplog: pytest.LogCaptureFixture):
    outbox = Outbox(side.url, exchange="celeryev")
    seen: list[dict[str, Any]] = []
    with watching(side.url, seen.append):
        outbox.start()
        outbox.publish({"type": "task-bad", "bad": object()}, routing_key="task.bad")
        outbox.publish({"type": "task-good"}, routing_key="task.good")
        until(lambda: seen)
    assert [event["type"] for event in seen] == ["task-good"]
    assert "cannot be written as JSON" in caplog.text


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        ("shutdown", {}),
        ("pool_restart", {"modules": ["os"], "reload": True}),
        ("pool_grow", {"n": 5}),
        ("pool_shrink", {"n": 1}),
        ("autoscale", {"max": 9, "min": 1}),
        ("rate_limit", {"task_name": "redrive.recover", "rate_limit": "1/h"}),
        ("time_limit", {"task_name": "redrive.recover", "hard": 0.1}),
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
    assert "redrive.recover" in told["registered"]
    assert told["stats"]["broker"]["transport"] == "sqs"
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


@pytest.fixture(scope="module")
def shared(sqs: EmbeddedSqs) -> Iterator[tuple[Redis, Worker]]:
    """One Redis and one worker for the tests that harm neither."""
    with EmbeddedRedis() as server, running(sqs, server.url) as worker:
        yield Redis(server), worker
    revoked.clear()


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give back afterwards what redirecting a command changes."""
    for name in ("CELERY_BROKER_URL", "CELERY_BROKER_READ_URL", "CELERY_BROKER_WRITE_URL", "FLOWER_ADDRESS"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


def run_option(app: Celery, command: str, url: str, *, broker: str | None = None) -> None:
    root = click.Context(click.Group("celery"), obj=SimpleNamespace(app=app))
    root.params["broker"] = broker
    context = click.Context(click.Command(command), parent=root)
    option = side_channel_option(url)
    option.callback(context, option, None)


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize("command", ["flower", "inspect", "control", "status", "events"])
def test_the_watching_commands_go_to_redis_and_send_no_task(command: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CELERY_BROKER_URL", "sqs://")
    app = Celery("redrive", broker="sqs://", set_as_current=False)
    run_option(app, command, "redis://127.0.0.1:1/3")
    assert app.connection_for_read().as_uri() == app.connection_for_write().as_uri() == "redis://:**@127.0.0.1:1/3"
    with pytest.raises(OperationalError, match="carries no tasks"):
        app.send_task("redrive.submit", ("employees", {"employeeId": 1234}))


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize(("command", "broker"), [("worker", None), ("beat", None), ("call", None), ("flower", "redis://other")])
def test_other_commands_and_an_explicit_broker_are_left_alone(command: str, broker: str | None):
    app = Celery("redrive", broker="sqs://", set_as_current=False)
    run_option(app, command, "redis://127.0.0.1:1/3", broker=broker)
    assert app.conf.broker_url == "sqs://"


def test_without_a_side_channel_a_watching_command_says_what_is_missing():
    with pytest.raises(click.UsageError, match="REDRIVE_MONITOR__URL"):
        run_option(Celery("redrive", broker="sqs://", set_as_current=False), "flower", "")


def test_without_a_side_channel_a_worker_is_celerys_own():
    app = Celery("redrive", broker="memory://", set_as_current=False)
    attach(app, "")
    assert not app.steps["consumer"]
    assert app.events.Dispatcher.__mro__[1].__module__ == "celery.events.dispatcher"


def test_attaching_opens_nothing():
    before = threading.active_count()
    attach(Celery("redrive", broker="memory://", set_as_current=False), "redis://127.0.0.1:1/0")
    assert threading.active_count() == before


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://h:1/0", "redis://h:1/0"),
        ("rediss://h:1/0", "rediss://h:1/0?ssl_cert_reqs=required"),
        ("rediss://h:1/0?client_name=a", "rediss://h:1/0?client_name=a&ssl_cert_reqs=required"),
        ("rediss://h:1/0?ssl_cert_reqs=none", "rediss://h:1/0?ssl_cert_reqs=none"),
    ],
)
def test_tls_is_verified_unless_the_url_says_otherwise(url: str, expected: str):
    assert verified(url) == expected


def test_flower_listens_on_loopback_only():
    assert flower_command(5555)[-2:] == ["--address=127.0.0.1", "--port=5555"]
