"""A worker on SQS with a side channel, a Redis that can be harmed, and someone who watches as Flower does: for the tests."""

from __future__ import annotations

import queue
import signal
import subprocess
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import redis
from celery import Celery
from celery.contrib.testing.worker import start_worker
from kombu.asynchronous import set_event_loop
from kombu.exceptions import OperationalError
from waiting import TEST_TIMEOUT, until

from tasks.devstack import child
from tasks.monitoring import attach

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tasks.devstack.redis import EmbeddedRedis
    from tasks.devstack.sqs import EmbeddedSqs

#: Stand in the worker's configuration and its task; none may be told to anyone.
SECRETS = {"AKIASECRETKEY", "sekret", "s3cret"}


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

    def has_subscribers(self, count: int) -> None:
        """Wait for so many subscriptions: a worker's listener has one, and who watches has one."""
        with redis.Redis.from_url(self.url) as client:
            until(lambda: client.pubsub_numpat() >= count, what=f"{count} subscribers")

    def freeze(self) -> None:
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self.process.send_signal(signal.SIGCONT)


class Worker:
    """A Celery worker on SQS, in a thread of the test."""

    def __init__(self, sqs: EmbeddedSqs, url: str) -> None:
        self.done: queue.Queue[int] = queue.Queue()
        self.app = Celery("redrive", set_as_current=False)
        self.app.conf.update(
            broker_url=f"sqs://AKIASECRETKEY:sekret@127.0.0.1:{sqs.port}",
            broker_transport="kombu.transport.SQS:Transport",  # kombu's own: Redrive's takes no task but Redrive's
            broker_transport_options={"region": sqs.region, "is_secure": False, "polling_interval": 0.02, "wait_time_seconds": 1},
            task_default_queue=f"celery-{uuid4()}",
            worker_enable_remote_control=False,
            worker_send_task_events=True,
            worker_hijack_root_logger=False,
            broker_connection_retry_on_startup=True,
            task_ignore_result=True,
        )
        attach(self.app, url)

        @self.app.task(name="side.touch", secret="s3cret", shared=False)
        def touch(number: int) -> None:
            self.done.put(number)

        self.touch = touch

    def works(self, number: int) -> None:
        """Let one task run."""
        self.touch.delay(number)
        assert self.done.get(timeout=TEST_TIMEOUT) == number


@contextmanager
def running(sqs: EmbeddedSqs, url: str) -> Iterator[Worker]:
    worker = Worker(sqs, url)
    set_event_loop(None)  # kombu keeps one for the process: what an earlier worker left open in it must not be ours
    options = {"without_heartbeat": False, "heartbeat_interval": 0.2, "loglevel": "WARNING"}
    with start_worker(worker.app, perform_ping_check=False, **options) as controller:
        worker.controller = controller
        worker.hostname = controller.hostname
        yield worker
    set_event_loop(None)


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
    thread.join(TEST_TIMEOUT)


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
