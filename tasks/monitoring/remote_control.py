"""Takes the orders of Flower and `celery inspect` from Redis, in a thread beside the worker's event loop."""
# mypy: allow-subclassing-any, allow-untyped-calls

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Any

from celery import bootsteps
from celery.utils.collections import AttributeDict
from kombu.messaging import Producer
from kombu.pidbox import Mailbox, Node

from tasks.monitoring.channel import Outage, connect
from tasks.monitoring.commands import COMMANDS

if TYPE_CHECKING:
    from kombu.connection import Connection

logger = logging.getLogger(__name__)

#: Seconds between two pings that a listener sends to itself, and seconds without a message after which it connects again.
PING_INTERVAL = 5.0
SILENCE = 3 * PING_INTERVAL

_POLL = 0.5


class _SideNode(Node):
    """kombu's mailbox node, which answers on its own channel and once: a lost answer is asked for again."""

    mailbox: Any

    def reply(self, data: Any, exchange: str, routing_key: str, ticket: str, **_: Any) -> None:
        """Send an answer to who asked."""
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
    """Takes orders for one worker from Redis until told to stop; connects again by itself."""

    def __init__(self, consumer: Any, url: str) -> None:
        super().__init__(name="redrive-remote-control", daemon=True)
        self._url = url
        self._hostname: str = consumer.hostname
        self._conf = consumer.app.conf
        self._clock = consumer.app.clock
        self._state = AttributeDict(app=consumer.app, hostname=consumer.hostname, consumer=consumer, tset=set)
        self._stopping = threading.Event()
        self._outage = Outage("Remote control")
        self._heard = 0.0

    def stop(self) -> None:
        """Ask the thread to end; it is not waited for."""
        self._stopping.set()

    def run(self) -> None:
        """Listen, and connect again after each failure."""
        while not self._stopping.is_set():
            try:
                with connect(self._url) as connection:
                    self._listen(connection, self._node(connection))
            except Exception as error:  # noqa: BLE001 - whatever is wrong with Redis must stay in this thread
                self._stopping.wait(self._outage.goes_on(error))

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

        def obey(body: Any, message: Any) -> None:
            self._heard = time.monotonic()
            self._outage.is_over()
            self._clock.forward()
            try:
                node.handle_message(body, message)
            except lost:
                raise
            except Exception as error:  # noqa: BLE001 - anyone may write to Redis
                logger.warning("Remote control message is not one: %r", error)

        node.listen(callback=obey)
        self._heard = beat = time.monotonic()
        while not self._stopping.is_set():
            if time.monotonic() >= beat:
                self._beat(node)
                beat = time.monotonic() + PING_INTERVAL
            try:
                connection.drain_events(timeout=_POLL)
            except TimeoutError:
                if time.monotonic() - self._heard > SILENCE:
                    raise

    def _beat(self, node: _SideNode) -> None:
        """Send oneself a ping: a subscription whose network has swallowed it looks like one with nothing to say."""
        message = {"method": "ping", "arguments": {}, "destination": [self._hostname]}
        exchange = node.mailbox.exchange
        Producer(node.channel).publish(message, exchange=exchange.name, declare=[exchange], serializer="json", retry=False)


class RemoteControl(bootsteps.StartStopStep):
    """The consumer's bootstep that runs a `Listener` beside the worker's event loop, from start to shutdown."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, consumer: Any, **options: Any) -> None:
        self._listener: Listener | None = None
        super().__init__(consumer, **options)

    def start(self, consumer: Any) -> None:
        """Begin to listen. A worker that only lost its broker comes here again and goes on listening."""
        if self._listener is None:
            self._listener = Listener(consumer, consumer.app.events.url)
            self._listener.start()

    def stop(self, _consumer: Any) -> None:
        """Go on: the broker's connection is not ours."""

    def shutdown(self, _consumer: Any) -> None:
        """End with the worker."""
        if self._listener is not None:
            self._listener.stop()
