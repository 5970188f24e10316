"""A company's sync API on loopback that does as a test tells it."""

from __future__ import annotations

import threading
from collections import Counter, deque
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


class CompanyApi:
    """A sync API on loopback. `answers` are (status, headers) for the next calls; when they are used up it answers 200.

    While `gate` is clear, calls wait at it: so a test can hold one open.
    """

    def __init__(self) -> None:
        self.answers: deque[tuple[int, dict[str, str]]] = deque()
        self.calls: list[tuple[str, str, dict[str, str]]] = []
        self.bodies: list[bytes] = []
        self.most_in_flight = 0
        self.most_per_path: Counter[str] = Counter()
        self.gate = threading.Event()
        self.gate.set()
        self.url = ""
        self._open: Counter[str] = Counter()
        self._changed = threading.Condition()

    def begin(self, method: str, path: str, headers: dict[str, str]) -> tuple[int, dict[str, str]]:
        with self._changed:
            self._open[path] += 1
            self.most_in_flight = max(self.most_in_flight, self._open.total())
            self.most_per_path[path] = max(self.most_per_path[path], self._open[path])
            self.calls.append((method, path, headers))
            self._changed.notify_all()
        self.gate.wait(60)
        with self._changed:
            return self.answers.popleft() if self.answers else (200, {})

    def end(self, path: str) -> None:
        with self._changed:
            self._open[path] -= 1
            self._changed.notify_all()

    def paths(self) -> list[str]:
        with self._changed:
            return [path for _, path, _ in self.calls]

    def wait_for_calls(self, count: int, timeout: float = 30.0) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.calls) >= count, timeout), f"{len(self.calls)} of {count} calls"


@contextmanager
def company_api_server() -> Iterator[CompanyApi]:
    api = CompanyApi()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_PUT(self) -> None:
            api.bodies.append(self.rfile.read(int(self.headers.get("Content-Length") or 0)))
            status, headers = api.begin("PUT", self.path, dict(self.headers))
            try:
                self.send_response(status)
                for name, value in {"Content-Length": "0", **headers}.items():
                    self.send_header(name, value)
                self.end_headers()
            except ConnectionError:
                pass  # the caller was killed: that is what some tests are about
            finally:
                api.end(self.path)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    api.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield api
    finally:
        api.gate.set()
        server.shutdown()
        server.server_close()
        thread.join()
