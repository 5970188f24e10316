"""Sends a worker's events to Redis instead of the broker.

Celery's own dispatcher makes and batches the events. Only its last step differs: it does not publish on the worker's event loop,
but puts the events into an `Outbox`. That costs one list append, whatever Redis does.
"""
# mypy: allow-subclassing-any, allow-untyped-calls

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import structlog
from celery.app.events import Events
from celery.events import EventDispatcher, get_exchange
from kombu.exceptions import EncodeError
from kombu.messaging import Producer

from tasks.monitoring.channel import Outage, connect

if TYPE_CHECKING:
    from collections.abc import Callable

log = structlog.get_logger("redrive.monitoring")

#: The most messages that an outbox keeps, of up to 24 events each. The oldest are dropped first.
OUTBOX_LIMIT = 2000
#: Seconds that a closing dispatcher waits until the last events, such as worker-offline, are sent.
CLOSE_TIMEOUT = 1.0
#: The fields of events that quote errors.
_ERRORS = ("exception", "traceback")


@dataclass(frozen=True)
class Message:
    """A message as Celery's dispatcher passes it to a producer."""

    #: One event, or a list of events.
    body: object
    routing_key: str
    headers: dict[str, Any]


class Outbox:
    """A bounded buffer of messages, which a daemon thread sends to Redis. Adding a message never waits and never fails."""

    def __init__(self, url: str, *, exchange: str, limit: int = OUTBOX_LIMIT) -> None:
        self._url = url
        self._exchange = exchange
        self._changed = threading.Condition()
        self._waiting: deque[Message] = deque(maxlen=limit)
        self._sending: Message | None = None
        self._connected = False
        self._thread: threading.Thread | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    def publish(self, body: object, *, routing_key: str, headers: dict[str, Any] | None = None, **_options: Any) -> None:
        """Add a message. A dispatcher calls this method of kombu's Producer; the other options are for a broker."""
        with self._changed:
            self._waiting.append(Message(body, routing_key, headers or {}))
            self._changed.notify_all()

    def start(self) -> None:
        """Start the thread, unless it runs."""
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._run, name="redrive-events", daemon=True)
            self._thread.start()

    def flush(self, timeout: float) -> None:
        """Wait up to `timeout` seconds until all messages are sent; not at all while Redis is down."""
        with self._changed:
            self._changed.wait_for(lambda: not self._connected or not (self._sending or self._waiting), timeout)

    def _run(self) -> None:
        outage = Outage("events")
        while True:
            try:
                with connect(self._url) as connection:
                    producer = Producer(connection.channel(), exchange=get_exchange(connection, name=self._exchange))
                    self._connected = True
                    self._send_all(producer, outage)
            except Exception as error:  # noqa: BLE001 - no failure of Redis may leave this thread
                self._connected = False
                time.sleep(outage.note_failure(error))

    def _send_all(self, producer: Producer, outage: Outage) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._sending or self._waiting)
                message = self._sending = self._sending or self._waiting.popleft()
            self._send(producer, message)  # if this raises, the same message is next
            outage.note_success()
            with self._changed:
                self._sending = None
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
            log.warning("event_dropped", type=message.routing_key, error=str(error))


class SideChannelDispatcher(EventDispatcher):
    """Celery's event dispatcher, with an outbox instead of a producer. It sends nothing to the broker."""

    def send(self, type: str, **fields: Any) -> Any:  # noqa: A002 - Celery's name
        """Send an event. Secrets are removed from messages and tracebacks, which may contain any value."""
        redacted = {name: self.app.events.redact(fields[name]) for name in _ERRORS if isinstance(fields.get(name), str)}
        return super().send(type, **fields | redacted)

    def enable(self) -> None:
        super().enable()
        self.publisher = self.app.events.outbox
        self.publisher.start()

    def close(self) -> None:
        super().close()
        self.app.events.outbox.flush(CLOSE_TIMEOUT)


class SideChannelEvents(Events):
    """`app.events` with dispatchers that send to a Redis."""

    dispatcher_cls = SideChannelDispatcher

    def __init__(self, app: Any = None, *, url: str, redact: Callable[[str], str] = str) -> None:
        super().__init__(app)
        self.url = url
        self.redact = redact

    @cached_property
    def outbox(self) -> Outbox:
        """The outbox of this process. It survives the dispatchers, which Celery replaces with each connection to the broker."""
        return Outbox(self.url, exchange=self.app.conf.event_exchange)
