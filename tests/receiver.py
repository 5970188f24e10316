"""A local HTTP receiver of alerts: Sentry's envelopes and the JSON of notification services."""

from __future__ import annotations

import gzip
import json
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self


@dataclass(frozen=True)
class Post:
    """One request; `body` is unpacked."""

    path: str
    headers: bytes
    body: bytes

    @property
    def raw(self) -> bytes:
        """All that was sent: where a secret could stand."""
        return b"\n".join([self.path.encode(), self.headers, self.body])

    def json(self) -> Any:
        return json.loads(self.body)

    def events(self) -> list[dict[str, Any]]:
        """Return the events of a Sentry envelope: https://develop.sentry.dev/sdk/data-model/envelopes/."""
        lines = self.body.split(b"\n")
        items = [(json.loads(header), payload) for header, payload in zip(lines[1::2], lines[2::2], strict=False)]
        assert {header["type"] for header, _ in items} <= {"event"}, "nothing but events is sent"
        return [json.loads(payload) for _, payload in items]


class Receiver(ThreadingHTTPServer):
    """Takes posts on loopback and answers them with the status `answer`. Serves while it is entered.

    While `open` is clear it does not answer, or with `drips` begins to, and then sends a byte at a time, below any read timeout.
    """

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answer = 200
        self.open = threading.Event()
        self.open.set()
        self.drips = False
        self.posts: list[Post] = []
        self.arrived = threading.Semaphore(0)
        self._thread = threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.open.set()
        self.shutdown()
        self.server_close()
        self._thread.join()

    def handle_error(self, *_: object) -> None:
        """A client that no longer waits for its answer is part of the tests."""

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.server_port}"

    @property
    def dsn(self) -> str:
        """What makes it a Sentry: envelopes come to /api/…."""
        return f"http://key@{self.address}/1"

    @property
    def events(self) -> list[dict[str, Any]]:
        return [event for post in list(self.posts) if post.path.startswith("/api/") for event in post.events()]

    @property
    def notifications(self) -> list[dict[str, Any]]:
        """What came from Apprise's json://."""
        return [post.json() for post in list(self.posts) if not post.path.startswith("/api/")]


class _Handler(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        body = gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body
        self.server.posts.append(Post(self.path, bytes(self.headers), body))
        self.server.arrived.release()
        if not self.server.drips:
            self.server.open.wait()
        self.send_response(self.server.answer)
        self.send_header("Content-Length", "1000")
        self.end_headers()
        while not self.server.open.wait(0.05):
            self.wfile.write(b" ")
        self.close_connection = True
        self.wfile.write(b"{}" + b" " * 998)

    def log_message(self, *_: object) -> None:
        pass
