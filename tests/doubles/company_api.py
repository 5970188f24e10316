"""A company's sync API on loopback. Tests say how it answers."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from doubles.http_server import Handler, LoopbackServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@dataclass
class ApiCall:
    """One call as the API saw it. `began` and `ended` are seconds by the monotonic clock, `began_at` by the wall clock."""

    path: str
    headers: dict[str, str]
    body: bytes
    began: float = field(default_factory=time.monotonic)
    began_at: float = field(default_factory=time.time)
    ended: float | None = None
    status: int | None = None


class CompanyApi:
    """A sync API. `answers` are (status, headers) for the next calls; when they are used up it answers with `status`.

    A test may replace `respond`, which chooses a call's answer. While `gate` is clear, calls wait there; `at_gate` counts them.
    Each call takes `takes` seconds.
    """

    def __init__(self, url: str = "") -> None:
        self.url = url
        self.answers: deque[tuple[int, dict[str, str]]] = deque()
        self.status = 200
        self.respond: Callable[[ApiCall], tuple[int, dict[str, str]]] = self._next_answer
        self.calls: list[ApiCall] = []
        self.most_in_flight = 0
        self.most_per_path: Counter[str] = Counter()
        self.gate = threading.Event()
        self.gate.set()
        self.at_gate = 0
        self.takes = 0.0
        self._open: Counter[str] = Counter()
        self._changed = threading.Condition(threading.RLock())

    def paths(self) -> list[str]:
        with self._changed:
            return [call.path for call in self.calls]

    def answered(self, status: int) -> list[ApiCall]:
        """Return the calls that were answered with this status, in the order in which they began."""
        with self._changed:
            return [call for call in self.calls if call.status == status]

    def wait_for_calls(self, count: int, timeout: float = 30.0) -> None:
        """Wait until so many calls have begun."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.calls) >= count, timeout), f"{len(self.calls)} of {count} calls"

    def begin(self, call: ApiCall) -> tuple[int, dict[str, str]]:
        with self._changed:
            self._open[call.path] += 1
            self.most_in_flight = max(self.most_in_flight, self._open.total())
            self.most_per_path[call.path] = max(self.most_per_path[call.path], self._open[call.path])
            self.calls.append(call)
            self._changed.notify_all()
        self._wait_at_gate()
        time.sleep(self.takes)
        with self._changed:
            call.status, headers = self.respond(call)
            return call.status, headers

    def _wait_at_gate(self) -> None:
        if not self.gate.is_set():
            with self._changed:
                self.at_gate += 1
            self.gate.wait()
            with self._changed:
                self.at_gate -= 1

    def end(self, call: ApiCall) -> None:
        with self._changed:
            call.ended = time.monotonic()
            self._open[call.path] -= 1
            self._changed.notify_all()

    def _next_answer(self, _: ApiCall) -> tuple[int, dict[str, str]]:
        return self.answers.popleft() if self.answers else (self.status, {})


@contextmanager
def company_api_server() -> Iterator[CompanyApi]:
    """Serve a company's API on a free port."""
    api = CompanyApi()
    with serving(api):
        yield api


@contextmanager
def serving(api: CompanyApi, port: int = 0) -> Iterator[None]:
    """Serve this API, and set its URL."""

    class Put(Handler):
        def do_PUT(self) -> None:
            call = ApiCall(self.path, dict(self.headers), self.body())
            status, headers = api.begin(call)
            try:
                self.answer(status, headers=headers)
            except ConnectionError:
                pass  # the caller was killed: that is what some tests are about
            finally:
                api.end(call)

    with LoopbackServer(Put, port) as server:
        api.url = server.url
        try:
            yield
        finally:
            api.gate.set()
