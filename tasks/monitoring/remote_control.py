"""Receives the commands of Flower and `celery inspect` from Redis, in a thread beside the worker's event loop."""
# mypy: allow-subclassing-any, allow-untyped-calls

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any

import structlog
from celery import bootsteps
from celery.utils.collections import AttributeDict
from kombu.messaging import Producer
from kombu.pidbox import Mailbox, Node

from tasks.monitoring.channel import Outage, connect
from tasks.monitoring.commands import COMMANDS

if TYPE_CHECKING:
    from kombu.connection import Connection

log = structlog.get_logger("redrive.monitoring")

#: Seconds between two pings that a listener sends to itself, and seconds without a message after which it connects again.
PING_INTERVAL = 5.0
SILENCE = 3 * PING_INTERVAL

_POLL = 0.5


class _SideNode(Node):
    """kombu's mailbox node. It replies on its own channel and only once: the caller repeats a lost command."""

    mailbox: Any

    def reply(self, data: Any, exchange: str, routing_key: str, ticket: str, **_: Any) -> None:
        Producer(self.channel, auto_declare=False).publish(
            data,
            exchange=exchange,
            routing_key=routing_key,
            headers={"ticket": ticket, "clock": self.mailbox.clock.forward()},
            serializer="json",
            retry=False,
        )


class _SideMailbox(Mailbox):
    node_cls = _SideNode


class Listener(threading.Thread):
    """Receives commands for one worker from Redis, and connects again after a failure."""

    def __init__(self, consumer: Any, url: str) -> None:
        super().__init__(name="redrive-remote-control", daemon=True)
        self._url = url
        self._hostname: str = consumer.hostname
        self._conf = consumer.app.conf
        self._clock = consumer.app.clock
        self._state = AttributeDict(app=consumer.app, hostname=consumer.hostname, consumer=consumer, tset=set)
        self._stopping = threading.Event()
        self._outage = Outage("remote control")
        self._last_message = 0.0

    def stop(self) -> None:
        """Ask the thread to end, without waiting for it."""
        self._stopping.set()

    def run(self) -> None:
        while not self._stopping.is_set():
            try:
                with connect(self._url) as connection:
                    self._listen(connection, self._node(connection))
            except Exception as error:  # noqa: BLE001 - no failure of Redis may leave this thread
                self._stopping.wait(self._outage.note_failure(error))

    def _node(self, connection: Connection) -> _SideNode:
        mailbox = _SideMailbox(
            self._conf.control_exchange,
            type="fanout",
            connection=connection,
            clock=self._clock,
            accept=["json"],
            serializer="json",
            queue_ttl=self._conf.control_queue_ttl,
            queue_expires=self._conf.control_queue_expires,
        )
        node: _SideNode = mailbox.Node(self._hostname, state=self._state, channel=connection.channel(), handlers=COMMANDS)
        return node

    def _listen(self, connection: Connection, node: _SideNode) -> None:
        lost = (*connection.connection_errors, *connection.channel_errors, OSError)

        def handle(body: Any, message: Any) -> None:
            self._last_message = time.monotonic()
            self._outage.note_success()
            self._clock.forward()
            try:
                node.handle_message(body, message)
            except lost:
                raise
            except Exception as error:  # noqa: BLE001 - anyone may write to Redis
                log.warning("command_invalid", error=repr(error))

        node.listen(callback=handle)
        self._last_message = next_ping = time.monotonic()
        while not self._stopping.is_set():
            if time.monotonic() >= next_ping:
                self._ping(node)
                next_ping = time.monotonic() + PING_INTERVAL
            try:
                connection.drain_events(timeout=_POLL)
            except TimeoutError:
                if time.monotonic() - self._last_message > SILENCE:
                    raise

    def _ping(self, node: _SideNode) -> None:
        """Send a ping to this listener: a subscription that the network dropped looks like a silent one."""
        message = {"method": "ping", "arguments": {}, "destination": [self._hostname]}
        exchange = node.mailbox.exchange
        Producer(node.channel).publish(message, exchange=exchange.name, declare=[exchange], serializer="json", retry=False)


class RemoteControl(bootsteps.StartStopStep):
    """A bootstep of Celery's consumer: runs a `Listener` from the start of the worker to its shutdown."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, consumer: Any, **options: Any) -> None:
        self._listener: Listener | None = None
        super().__init__(consumer, **options)

    def start(self, consumer: Any) -> None:
        """Start the listener. Celery calls this again after the broker was lost; the listener still runs then."""
        if self._listener is None:
            self._listener = Listener(consumer, consumer.app.events.url)
            self._listener.start()

    def stop(self, _consumer: Any) -> None:
        """Do nothing: the listener does not use the broker."""

    def shutdown(self, _consumer: Any) -> None:
        if self._listener is not None:
            self._listener.stop()
