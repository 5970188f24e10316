"""Counts the calls at the API: how many there were, how many were open at once, and when each began and ended."""

from __future__ import annotations

import time
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

#: Calls whose begin and end are kept.
KEPT = 20_000


@dataclass
class Call:
    """One call: from its request line and headers until its answer was written or its client gone. Monotonic seconds."""

    path: str
    fence: str
    began: float = field(default_factory=time.monotonic)
    ended: float | None = None
    status: int | None = None

    def shown(self) -> dict[str, Any]:
        """Return the call for JSON."""
        return {"path": self.path, "fence": self.fence, "began": self.began, "ended": self.ended, "status": self.status}


class Traffic:
    """The counts. Touched by the event loop's thread only."""

    def __init__(self) -> None:
        self.calls: deque[Call] = deque(maxlen=KEPT)
        self.faults: Counter[str] = Counter()
        self.lost_races = 0
        self.refused_fences = 0
        self._open: Counter[str] = Counter()
        self._count = 0
        self._most = 0
        self._most_per_key = 0
        self._statuses: Counter[str] = Counter()

    def begin(self, path: str, fence: str) -> Call:
        """Count a call in."""
        call = Call(path, fence)
        self.calls.append(call)
        self._count += 1
        self._open[path] += 1
        self._most = max(self._most, self._open.total())
        self._most_per_key = max(self._most_per_key, self._open[path])
        return call

    def end(self, call: Call) -> None:
        """Count a call out."""
        call.ended = time.monotonic()
        self._open[call.path] -= 1
        self._statuses[str(call.status)] += 1

    def stats(self) -> dict[str, Any]:
        """Return the counts for JSON."""
        return {
            "calls": self._count,
            "in_flight": self._open.total(),
            "max_in_flight": self._most,
            "max_in_flight_per_key": self._most_per_key,
            "statuses": dict(self._statuses),
            "faults": dict(self.faults),
            "lost_races": self.lost_races,
            "refused_fences": self.refused_fences,
        }


class CountCalls:
    """ASGI middleware: every PUT is a call, whatever becomes of it."""

    def __init__(self, app: ASGIApp, traffic: Traffic) -> None:
        self._app = app
        self._traffic = traffic

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Count around the application."""
        if scope["type"] != "http" or scope["method"] != "PUT":
            await self._app(scope, receive, send)
            return
        fence = dict(scope["headers"]).get(b"redrive-fence", b"").decode("latin-1")
        call = self._traffic.begin(scope["path"], fence)

        async def watched(message: Message) -> None:
            if message["type"] == "http.response.start":
                call.status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, watched)
        finally:
            self._traffic.end(call)
