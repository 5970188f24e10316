"""Worker events on their way to Redis instead of the broker.

Celery's own dispatcher makes and batches the events; only its last step is exchanged: rather than publishing on the worker's
event loop it drops them in an `Outbox`, which costs a list append whatever Redis does.
"""
# mypy: allow-subclassing-any, allow-untyped-calls

from __future__ import annotations

import threading
import time
from collections import deque
from functools import cached_property
from typing import Any

from celery.app.events import Events
from celery.events import EventDispatcher, get_exchange
from celery.utils.log import get_logger
from kombu.exceptions import EncodeError
from kombu.messaging import Producer

from tasks.monitoring.channel import connect, pauses

logger = get_logger(__name__)

#: Event messages that are kept while Redis is away (a message holds up to 24 events); the oldest are given up first.
OUTBOX_LIMIT = 2000

#: Seconds that a closing dispatcher waits for the last events (such as worker-offline) to leave.
LAST_WORDS = 1.0


class Outbox:
    """A bounded buffer of event messages that a daemon thread carries to Redis. Adding to it never waits and never fails."""

    def __init__(self, url: str, *, exchange: str, limit: int = OUTBOX_LIMIT) -> None:
        self._url = url
        self._exchange = exchange
        self._limit = limit
        self._waiting: deque[tuple[object, str, dict[str, Any]]] = deque(maxlen=limit)
        self._filled = threading.Event()
        self._idle = threading.Event()
        self._connected = False
        self._thread: threading.Thread | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    def publish(self, body: object, *, routing_key: str, headers: dict[str, Any] | None = None, **_options: Any) -> None:
        """Take one message: the method of kombu's Producer that a dispatcher calls. Its other options are the broker's."""
        self._idle.clear()
        self._waiting.append((body, routing_key, headers or {}))
        self._filled.set()

    def start(self) -> None:
        """Start carrying, unless that is going on already."""
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._run, name="redrive-events", daemon=True)
            self._thread.start()

    def settle(self, timeout: float) -> None:
        """Give the messages at hand up to `timeout` seconds to leave; none when Redis is known to be away."""
        deadline = time.monotonic() + timeout
        while self._connected and self._waiting and time.monotonic() < deadline:
            self._idle.wait(0.05)

    def _run(self) -> None:
        away = False
        waits = pauses()
        while True:
            try:
                with connect(self._url) as connection:
                    producer = Producer(connection.channel(), exchange=get_exchange(connection, name=self._exchange))
                    if away:
                        logger.info("Monitoring is back: events reach %s again.", connection.as_uri())
                    away, waits = False, pauses()
                    self._connected = True
                    self._carry(producer)
            except Exception as error:  # noqa: BLE001 - whatever is wrong with Redis must stay in this thread
                self._connected = False
                if not away:
                    logger.warning("Monitoring is away, tasks go on: %s: %s", type(error).__name__, error)
                away = True
                time.sleep(next(waits))

    def _carry(self, producer: Producer) -> None:
        while True:
            self._filled.wait()
            self._filled.clear()
            while self._waiting:
                self._send(producer, self._waiting.popleft())
            self._idle.set()

    def _send(self, producer: Producer, message: tuple[object, str, dict[str, Any]]) -> None:
        body, routing_key, headers = message
        try:
            producer.publish(body, routing_key=routing_key, headers=headers, serializer="json", delivery_mode=1, retry=False)
        except EncodeError as error:
            logger.warning("Event %s cannot be written as JSON and is dropped: %s", routing_key, error)
        except Exception:
            if len(self._waiting) < self._limit:
                self._waiting.appendleft(message)
                self._filled.set()
            raise


class SideChannelDispatcher(EventDispatcher):
    """Celery's event dispatcher with an outbox for a producer; the broker connection it is given carries nothing."""

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

    def __init__(self, app: Any = None, *, url: str) -> None:
        super().__init__(app)
        self.url = url

    @cached_property
    def outbox(self) -> Outbox:
        """The process's one outbox: it outlives the dispatchers, which come and go with the broker's connection."""
        return Outbox(self.url, exchange=self.app.conf.event_exchange)
