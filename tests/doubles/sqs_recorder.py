"""An HTTP proxy in front of the embedded SQS. It records every call as it was sent, and can let some fail."""

from __future__ import annotations

import base64
import http.client
import json
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from doubles.http_server import Handler, LoopbackServer

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(frozen=True)
class SqsCall:
    """One call: `action` is SendMessage, ReceiveMessage, …; `parameters` its JSON."""

    action: str
    parameters: dict[str, Any]

    @property
    def queue(self) -> str:
        return self.parameters.get("QueueUrl", "").rsplit("/", 1)[-1]

    @property
    def celery_headers(self) -> dict[str, Any]:
        """The headers of the Celery message that this call sends."""
        body = self.parameters["MessageBody"]
        envelope = json.loads(body if body.startswith("{") else base64.b64decode(body))
        return envelope["headers"]


class SqsRecorder:
    """The calls that SQS received so far. Clients connect to `port`."""

    def __init__(self, port: int) -> None:
        self.port = port
        self._calls: list[SqsCall] = []
        self._faults: dict[str, list[tuple[int, bytes] | None]] = {}
        self._changed = threading.Condition(threading.RLock())

    def fail(self, action: str, *faults: tuple[int, bytes] | None) -> None:
        """Answer the next calls of `action` with these statuses and bodies; None cuts the connection."""
        with self._changed:
            self._faults.setdefault(action, []).extend(faults)

    def is_failing(self, action: str) -> bool:
        with self._changed:
            return bool(self._faults.get(action))

    def next_fault(self, action: str) -> list[tuple[int, bytes] | None]:
        """Return the fault for this call, as a list of one; empty when there is none."""
        with self._changed:
            return [self._faults[action].pop(0)] if self._faults.get(action) else []

    def add(self, call: SqsCall) -> None:
        with self._changed:
            self._calls.append(call)
            self._changed.notify_all()

    def clear(self) -> None:
        with self._changed:
            self._calls.clear()

    def sent(self, queue: str) -> list[SqsCall]:
        return self.calls("SendMessage", queue)

    def calls(self, action: str, queue: str) -> list[SqsCall]:
        with self._changed:
            return [call for call in self._calls if call.action == action and call.queue == queue]

    def wait_for_call(self, action: str, queue: str, timeout: float = 20.0) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self.calls(action, queue), timeout), f"no {action} on {queue}"

    def wait_for(self, queue: str, count: int, timeout: float = 20.0) -> list[SqsCall]:
        """Wait until `count` messages were sent to `queue`; return all of them."""
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.sent(queue)) >= count, timeout), f"not {count} sent"
            return self.sent(queue)


class SqsProxy(LoopbackServer):
    """Passes each call on to the SQS at `upstream_port`, and records it."""

    def __init__(self, upstream_port: int) -> None:
        super().__init__(_Call)
        self.upstream_port = upstream_port
        self.recorder = SqsRecorder(self.server_port)


class _Call(Handler):
    server: SqsProxy

    def do_POST(self) -> None:
        body = self.body()
        action = self.headers.get("X-Amz-Target", "").rpartition(".")[2]
        if action:
            self.server.recorder.add(SqsCall(action, json.loads(body)))
        for fault in self.server.recorder.next_fault(action):
            self._fail(fault)
            return
        upstream = http.client.HTTPConnection("127.0.0.1", self.server.upstream_port, timeout=60)
        try:
            upstream.request("POST", self.path, body, dict(self.headers))
            response = upstream.getresponse()
            self._pass_on(response, response.read())
        except (ConnectionError, http.client.HTTPException):
            self.close_connection = True  # one side is gone: so is the other
        finally:
            upstream.close()

    def _fail(self, fault: tuple[int, bytes] | None) -> None:
        self.close_connection = fault is None
        if fault:
            self.answer(*fault, headers={"Content-Type": "application/x-amz-json-1.0"})

    def _pass_on(self, response: http.client.HTTPResponse, content: bytes) -> None:
        ours = {"transfer-encoding", "content-length", "connection", "date", "server"}
        self.answer(response.status, content, {name: value for name, value in response.getheaders() if name.lower() not in ours})


@contextmanager
def recording_sqs(upstream_port: int) -> Iterator[SqsRecorder]:
    """Put a proxy in front of the SQS at `upstream_port`; yield what it records."""
    with SqsProxy(upstream_port) as server:
        yield server.recorder
