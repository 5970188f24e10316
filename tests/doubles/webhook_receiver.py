"""An HTTP receiver on loopback for alerts: envelopes for Sentry, and JSON for notification services."""

from __future__ import annotations

import gzip
import json
import threading
from dataclasses import dataclass
from typing import Any

from doubles.http_server import Handler, LoopbackServer


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


class WebhookReceiver(LoopbackServer):
    """Takes posts and answers them with the status `status`.

    While `open` is clear it does not answer. With `drips` it begins an answer then, and sends one byte of it every 50 ms.
    """

    def __init__(self) -> None:
        super().__init__(_Post)
        self.status = 200
        self.open = threading.Event()
        self.open.set()
        self.drips = False
        self.posts: list[Post] = []
        self.arrived = threading.Semaphore(0)

    def __exit__(self, *_: object) -> None:
        self.open.set()
        super().__exit__()

    @property
    def dsn(self) -> str:
        """The URL for Sentry's client, which posts envelopes to /api/…."""
        return f"http://key@{self.address}/1"

    @property
    def events(self) -> list[dict[str, Any]]:
        return [event for post in list(self.posts) if post.path.startswith("/api/") for event in post.events()]

    @property
    def notifications(self) -> list[dict[str, Any]]:
        """The JSON that came from Apprise's json://."""
        return [post.json() for post in list(self.posts) if not post.path.startswith("/api/")]


class _Post(Handler):
    server: WebhookReceiver

    def do_POST(self) -> None:
        body = self.body()
        body = gzip.decompress(body) if self.headers.get("Content-Encoding") == "gzip" else body
        self.server.posts.append(Post(self.path, bytes(self.headers), body))
        self.server.arrived.release()
        if not self.server.drips:
            self.server.open.wait()
        self.send_response(self.server.status)
        self.send_header("Content-Length", "1000")
        self.end_headers()
        while not self.server.open.wait(0.05):
            self.wfile.write(b" ")
        self.close_connection = True
        self.wfile.write(b"{}" + b" " * 998)
