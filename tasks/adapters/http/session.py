"""Connections that end with their call, and do what they are told and no more.

`requests` has no total time-out and no way to reach the socket from another thread; its own closing waits for the read that
hangs (urllib3#2868). So each call has a `Line`, which its connection asks before it connects and before it sends.
"""

from __future__ import annotations

import os
import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from requests import PreparedRequest, Response
from requests.adapters import HTTPAdapter
from requests.structures import CaseInsensitiveDict
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import NewConnectionError

from tasks.adapters.http.response import StrictResponse

if TYPE_CHECKING:
    from collections.abc import Callable

    from tasks.dlq.calls.api import SyncResult

#: Seconds that a call gets after its deadline to put its socket away.
GRACE = 0.25
NOT_YET = "preparing the call"


class CutError(Exception):
    """The call is over: it may neither connect nor send any more."""


class Line:
    """The life line of one call: how far it came, and its socket, to be shut down from another thread at the deadline.

    The socket is held by a duplicate of its descriptor, since `ssl` detaches the original before the handshake, and
    `http.client` closes it before the body is read. Only this object closes the duplicate, under its lock: what is shut down
    is never a descriptor that meanwhile belongs to somebody else. (Nor is it `SSLSocket.shutdown`, after which a thread that
    is about to send would send in the clear.)
    """

    def __init__(self, target: str, *, redact: Callable[[str], str], ends: float, clock: Callable[[], float]) -> None:
        self.target = target
        self.redact = redact
        self.phase = NOT_YET
        self.status: int | None = None
        self.begun = False
        self.sent = False
        self.ended = threading.Event()
        self._ends = ends
        self._clock = clock
        self._lock = threading.Lock()
        self._wire: socket.socket | None = None
        self._result: SyncResult | None = None
        self._cut = False

    def left(self) -> float:
        """Return the seconds until the deadline."""
        return self._ends - self._clock()

    def begin(self) -> None:
        """Note that the call's thread runs. Raises CutError when the call was given up before."""
        with self._lock:
            if self._cut:
                raise CutError
            self.begun = True

    def hold(self, sock: socket.socket, *, sending: bool = False) -> None:
        """Take hold of the socket that the call goes on with. Raises CutError after the deadline."""
        with self._lock:
            if self._cut or self.left() <= 0:  # a process that was stopped wakes up here before anybody has cut the call
                raise CutError
            if self._wire:
                self._wire.close()
            self._wire = _duplicate(sock)
            self.sent = self.sent or sending

    def finish(self, result: SyncResult) -> bool:
        """Take the result, and tell whether it came in time."""
        with self._lock:
            self._result = None if self._cut else result
            return not self._cut

    def cut(self) -> SyncResult | None:
        """Return the result if it is there; else see to it that nothing more is sent or received."""
        with self._lock:
            self._cut = self._result is None
            if self._cut and self._wire:
                with suppress(OSError):  # not connected yet, or no longer
                    self._wire.shutdown(socket.SHUT_RDWR)
            return self._result

    def release(self) -> None:
        """Let go of the socket: the call's thread has ended its work."""
        with self._lock:
            if self._wire:
                self._wire.close()
                self._wire = None
        self.ended.set()


def _duplicate(sock: socket.socket) -> socket.socket:
    """Return a socket over a duplicate of the descriptor, which is not left open where there is no memory for the socket."""
    descriptor = os.dup(sock.fileno())
    try:
        return socket.socket(fileno=descriptor)
    except BaseException:
        os.close(descriptor)
        raise


class Active(threading.local):
    """The life line of the call that the present thread makes: urllib3 has no way to hand it to a connection."""

    line: Line


active = Active()


class _Connection(HTTPConnection):
    """A connection that connects and sends only while the call's life line holds, and only what the call is about."""

    response_class = StrictResponse

    def _new_conn(self) -> socket.socket:
        line = active.line
        line.phase = f"looking up {self.host}"
        addresses = socket.getaddrinfo(self._dns_host.strip("[]"), self.port, type=socket.SOCK_STREAM)
        line.phase = f"connecting to {self.host}:{self.port}"
        failure = OSError("the name has no address")
        for tried, (family, kind, protocol, _, address) in enumerate(addresses):
            sock = socket.socket(family, kind, protocol)
            try:
                line.hold(sock)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                # A share of the time for each address: one that swallows packets leaves time for the next.
                sock.settimeout((max(line.left(), 0.0) + GRACE) / (len(addresses) - tried))
                sock.connect(address)
            except OSError as error:
                sock.close()
                failure = error
            except CutError:
                sock.close()
                raise
            else:
                sock.settimeout(max(line.left(), 0.0) + GRACE)
                line.phase = f"agreeing on TLS with {self.host}:{self.port}"
                return sock
        # Not the error itself: urllib3 takes a connection reset for one that came while sending, and goes on to read.
        raise NewConnectionError(self, str(failure)) from failure

    def putrequest(self, method: str, url: str, *args: Any, **kwargs: Any) -> None:
        """Begin the request, unless its target is not the one that the template allows."""
        if url != active.line.target:
            raise ValueError(f"the request line would say {url} for {active.line.target}")
        super().putrequest(method, url, *args, **kwargs)

    def send(self, data: Any) -> None:
        """Send, unless the deadline has passed."""
        if self.sock is None:
            self.connect()
        active.line.hold(self.sock, sending=True)
        active.line.phase = "waiting for the answer"
        super().send(data)


class _TlsConnection(_Connection, HTTPSConnection):
    """The same over TLS."""


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _TlsPool(HTTPSConnectionPool):
    ConnectionCls = _TlsConnection


class Session(HTTPAdapter):
    """The connection of one call after the other, by the part of `requests` that sends.

    The rest of it, `requests.Session`, would read redirects, look into the environment, and parse cookies, also where a policy
    allows none: that can be made to take minutes and gigabytes.
    """

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Have urllib3 use connections that obey."""
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = {"http": _Pool, "https": _TlsPool}

    def build_response(self, req: PreparedRequest, resp: Any) -> Response:
        """Return what urllib3 has, without a look at its cookies."""
        response = Response()
        response.request, response.url, response.raw = req, req.url or "", resp
        response.status_code, response.reason = resp.status, resp.reason
        response.headers = CaseInsensitiveDict(resp.headers)
        return response
