"""Orders from Flower and `celery inspect`: a short list of harmless ones, taken from Redis by a thread of the worker."""
# mypy: allow-subclassing-any, allow-untyped-calls

from __future__ import annotations

import threading
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from celery import bootsteps
from celery.utils.collections import AttributeDict
from celery.utils.log import get_logger
from celery.worker.control import Panel
from kombu.messaging import Producer
from kombu.pidbox import Mailbox, Node

from tasks.monitoring.channel import connect, pauses

if TYPE_CHECKING:
    from collections.abc import Callable

    from kombu.connection import Connection

logger = get_logger(__name__)

Answer = dict[str, Any] | list[Any] | None

#: Celery's own handlers that only look, or that touch nothing but what the worker tells about itself.
_AS_CELERY_DOES = (
    "ping",
    "active",
    "reserved",
    "scheduled",
    "revoked",
    "query_task",
    "active_queues",
    "enable_events",
    "heartbeat",
)

#: Seconds between two signs of life that a listener sends to itself, and the silence after which it connects anew.
PULSE = 5.0
SILENCE = 3 * PULSE

_POLL = 0.5
_SNAPSHOT_TRIES = 5


def _snapshot(handler: Callable[..., Answer], state: AttributeDict, **arguments: Any) -> Answer:
    """Run a handler that walks over the worker's sets while its event loop may change them."""
    for _ in range(_SNAPSHOT_TRIES):
        try:
            return handler(state, **arguments)
        except RuntimeError as error:  # "Set changed size during iteration"
            logger.debug("Asked again: %s", error)
    return {"error": "the worker was too busy to be looked at; ask again"}


def _registered(state: AttributeDict, **_: Any) -> Answer:
    """List the tasks' names. Celery's handler would print any attribute of a task that is asked for."""
    return [name for name in sorted(state.app.tasks) if not name.startswith("celery.")]


def _stats(state: AttributeDict, **_: Any) -> Answer:
    """Celery's statistics without the broker's account: on SQS the user id is an AWS access key."""
    stats: dict[str, Any] = _snapshot(Panel.data["stats"], state)  # type: ignore[assignment]
    broker = stats.get("broker")
    if isinstance(broker, dict):
        stats["broker"] = {key: broker[key] for key in ("transport", "connect_timeout", "heartbeat") if key in broker}
    return stats


def _conf(state: AttributeDict, **_: Any) -> Answer:
    """The plain settings only: no URL, no nested options, where credentials could stand."""
    table = state.app.conf.table(with_defaults=False, censored=True)
    return {
        key: value
        for key, value in table.items()
        if isinstance(value, bool | int | float | str) and "url" not in key and "backend" not in key and not key.startswith("__")
    }


def _revoke(state: AttributeDict, task_id: str | list[str] = "", *, terminate: bool = False, **_: Any) -> Answer:
    """Forget a wake-up that has not begun. Never stops a running one: its call would be left without an outcome."""
    if terminate:
        return {"error": "refused: terminate would cut a call in two; revoke without it, or use `redrive discard`"}
    return Panel.data["revoke"](state, task_id)  # type: ignore[no-any-return]


def _refused(command: str, _state: AttributeDict, **_: Any) -> Answer:
    logger.warning("Remote control command %.60r is refused: it is not on the list of safe ones.", command)
    return {"error": f"refused: {command[:60]!r} is not allowed on the side channel; allowed are {', '.join(sorted(COMMANDS))}"}


class _Commands(dict[str, "Callable[..., Answer]"]):
    """An allow-list: everything else is answered with a refusal."""

    def __missing__(self, command: str) -> Callable[..., Answer]:
        return partial(_refused, command)


COMMANDS = _Commands(
    {name: partial(_snapshot, Panel.data[name]) for name in _AS_CELERY_DOES},
    registered=_registered,
    stats=_stats,
    conf=_conf,
    revoke=_revoke,
)


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
        self._heard = 0.0

    def stop(self) -> None:
        """Ask the thread to end; it is not waited for."""
        self._stopping.set()

    def run(self) -> None:
        """Listen, and connect again after each failure."""
        waits = pauses()
        while not self._stopping.is_set():
            try:
                with connect(self._url) as connection:
                    node = self._node(connection)
                    waits = pauses()
                    self._listen(connection, node)
            except Exception as error:  # noqa: BLE001 - whatever is wrong with Redis must stay in this thread
                logger.debug("Remote control is away: %r", error)
                self._stopping.wait(next(waits))

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
                beat = time.monotonic() + PULSE
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
