"""Calls of the sync API for the tests of `tasks.adapters.http`."""

from __future__ import annotations

import ssl
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tasks.dlq.calls.api import SyncRequest, SyncResult
from tasks.dlq.calls.route import Route
from tasks.dlq.parameters import Integer

if TYPE_CHECKING:
    from tasks.adapters.http import RequestsSyncApi

TOKEN = "eyJhbGciOiJub25lIn0.secret/part+one=="
#: A certificate of 127.0.0.1 with its key.
PEM = Path(__file__).with_name("loopback.pem")
HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


def request(url: str, employee: str = "1234", **route: Any) -> SyncRequest:
    """Return a call of route "employees", for which the API has TOKEN."""
    settings = {"name": "employees", "params": {"employeeId": Integer()}, "deadline": 10} | route
    return SyncRequest(route=Route(url=url, **settings), parameters={"employeeId": employee}, job_id=7, attempt=3, fence=42)


def call_in_time(api: RequestsSyncApi, call: SyncRequest) -> SyncResult:
    """Make a call and check what holds for every result."""
    began = time.monotonic()
    result = api.call(call)
    seconds = time.monotonic() - began
    assert seconds <= call.route.deadline + 1
    assert 0 <= result.seconds <= seconds + 0.1
    assert result.detail.isprintable()
    assert len(result.detail) <= 200
    assert TOKEN[:12] not in result.detail
    return result


def server_tls() -> ssl.SSLContext:
    """Return what a server needs for TLS on 127.0.0.1."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(PEM)
    return context


def header(head: bytes, name: str) -> list[str]:
    """Return the values of one header of a request."""
    lines = [line.partition(":") for line in head.decode("latin-1").split("\r\n")[1:]]
    return [value.strip() for key, _, value in lines if key.lower() == name.lower()]
