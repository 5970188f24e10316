"""Counts the calls of the sample API: all of them, and how many are open at once."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

#: The status of a call whose client has left before an answer. nginx uses the same number.
CLIENT_LEFT = 499


class CallCounter:
    """The counts. Only the thread of the event loop uses them."""

    def __init__(self) -> None:
        self._total = 0
        self._most = 0
        self._most_per_key = 0
        self._open: Counter[str] = Counter()
        self._statuses: Counter[str] = Counter()

    def begin(self, path: str) -> None:
        """Count a call that has begun."""
        self._total += 1
        self._open[path] += 1
        self._most = max(self._most, self._open.total())
        self._most_per_key = max(self._most_per_key, self._open[path])

    def end(self, path: str, status: int | None) -> None:
        """Count a call that has ended."""
        self._open[path] -= 1
        self._statuses[str(status)] += 1

    def make_statistics(self) -> dict[str, Any]:
        """Return the counts, ready for JSON."""
        return {
            "calls": self._total,
            "in_flight": self._open.total(),
            "max_in_flight": self._most,
            "max_in_flight_per_key": self._most_per_key,
            "statuses": dict(self._statuses),
        }


class CountCalls:
    """ASGI middleware that counts each PUT request."""

    def __init__(self, app: ASGIApp, counter: CallCounter) -> None:
        self._app = app
        self._counter = counter

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, and count it."""
        if scope["type"] != "http" or scope["method"] != "PUT":
            await self._app(scope, receive, send)
            return
        status: int | None = None

        async def send_and_note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        self._counter.begin(scope["path"])
        try:
            await self._app(scope, receive, send_and_note)
        finally:
            self._counter.end(scope["path"], status)
