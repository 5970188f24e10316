"""Worker events on their way to Redis instead of the broker.

Celery's own dispatcher makes and batches the events; only its last step is exchanged: rather than publishing on the worker's
event loop it drops them in an `Outbox`, which costs a list append whatever Redis does.
"""
# mypy: allow-subclassing-any, allow-untyped-calls

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from celery.app.events import Events
from celery.events import EventDispatcher, get_exchange
from kombu.exceptions import EncodeError
from kombu.messaging import Producer

from tasks.monitoring.channel import Outage, connect

if TYPE_CHECKING:
    from collections.abc import Callable

logger = logging.getLogger(__name__)

#: Event messages that are kept while Redis is away (a message holds up to 24 events); the oldest are given up first.
OUTBOX_LIMIT = 2000

#: The fields of events that quote errors.
_ERRORS = ("exception", "traceback")

#: Seconds that a closing dispatcher waits for the last events (such as worker-offline) to leave.
LAST_WORDS = 1.0


@dataclass(frozen=True)
class Message:
    """One event, or a list of them, as Celery's dispatcher hands it to a producer."""

    body: object
    routing_key: str
    headers: dict[str, Any]


class Outbox:
    """A bounded buffer of event messages that a daemon thread carries to Redis. Adding to it never waits and never fails."""

    def __init__(self, url: str, *, exchange: str, limit: int = OUTBOX_LIMIT) -> None:
        self._url = url
        self._exchange = exchange
        self._changed = threading.Condition()
        self._waiting: deque[Message] = deque(maxlen=limit)
        self._leaving: Message | None = None
        self._connected = False
        self._thread: threading.Thread | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    def publish(self, body: object, *, routing_key: str, headers: dict[str, Any] | None = None, **_options: Any) -> None:
        """Take one message: the method of kombu's Producer that a dispatcher calls. Its other options are the broker's."""
        with self._changed:
            self._waiting.append(Message(body, routing_key, headers or {}))
            self._changed.notify_all()

    def start(self) -> None:
        """Start carrying, unless that is going on already."""
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._run, name="redrive-events", daemon=True)
            self._thread.start()

    def settle(self, timeout: float) -> None:
        """Give what is at hand up to `timeout` seconds to leave; none when Redis is known to be away."""
        with self._changed:
            self._changed.wait_for(lambda: not self._connected or not (self._leaving or self._waiting), timeout)

    def _run(self) -> None:
        outage = Outage("Events for Flower")
        while True:
            try:
                with connect(self._url) as connection:
                    producer = Producer(connection.channel(), exchange=get_exchange(connection, name=self._exchange))
                    self._connected = True
                    self._carry(producer, outage)
            except Exception as error:  # noqa: BLE001 - whatever is wrong with Redis must stay in this thread
                self._connected = False
                time.sleep(outage.goes_on(error))

    def _carry(self, producer: Producer, outage: Outage) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._leaving or self._waiting)
                message = self._leaving = self._leaving or self._waiting.popleft()
            self._send(producer, message)  # when it raises, the message is still the one that leaves next
            outage.is_over()
            with self._changed:
                self._leaving = None
                self._changed.notify_all()

    def _send(self, producer: Producer, message: Message) -> None:
        try:
            producer.publish(
                message.body,
                routing_key=message.routing_key,
                headers=message.headers,
                serializer="json",
                delivery_mode=1,
                retry=False,
            )
        except EncodeError as error:
            logger.warning("Event %s cannot be written as JSON and is dropped: %s", message.routing_key, error)


class SideChannelDispatcher(EventDispatcher):
    """Celery's event dispatcher with an outbox for a producer; the broker connection it is given carries nothing."""

    def send(self, type: str, **fields: Any) -> Any:  # noqa: A002 - Celery's name
        """Send an event, errors without secrets: their messages and tracebacks hold whatever was in hand."""
        told = {name: self.app.events.redact(fields[name]) for name in _ERRORS if isinstance(fields.get(name), str)}
        return super().send(type, **fields | told)

    def enable(self) -> None:
        """Begin to send."""
        super().enable()
        self.publisher = self.app.events.outbox
        self.publisher.start()

    def close(self) -> None:
        """Stop sending; what was sent still leaves, if Redis takes it soon."""
        super().close()
        self.app.events.outbox.settle(LAST_WORDS)


class SideChannelEvents(Events):
    """`app.events` with dispatchers that send to the Redis at `url`, whatever the application's broker is."""

    dispatcher_cls = SideChannelDispatcher

    def __init__(self, app: Any = None, *, url: str, redact: Callable[[str], str] = str) -> None:
        super().__init__(app)
        self.url = url
        self.redact = redact

    @cached_property
    def outbox(self) -> Outbox:
        """The process's one outbox: it outlives the dispatchers, which come and go with the broker's connection."""
        return Outbox(self.url, exchange=self.app.conf.event_exchange)
