"""Connections that connect and send only while the guard of the call allows it."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any

from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection

from tasks.adapters.http.deadline import CallGuard, current_guard

if TYPE_CHECKING:
    import socket

#: Seconds that an idle connection is kept. Servers and gateways close theirs later, so that a kept one is rarely stale.
_KEEP_ALIVE = 15.0
#: Seconds after the deadline until a read times out: by then the call has been cut.
GRACE = 0.25


class _GuardedConnection(HTTPConnection):
    _guard: CallGuard

    @property
    def is_connected(self) -> bool:
        """Whether the next call may use this connection: its last call has ended, and nothing is left to read on it."""
        unread = isinstance(self.sock, ssl.SSLSocket) and self.sock.pending()  # bytes in OpenSSL, which the base does not see
        return super().is_connected and not unread and self._guard.seconds_since_end() < _KEEP_ALIVE

    def _new_conn(self) -> socket.socket:
        guard = current_guard.get()
        guard.enter(f"connecting to {self.host}:{self.port}")
        self.sock = super()._new_conn()  # urllib3 closes it when the next line raises
        guard.enter(f"agreeing on TLS with {self.host}:{self.port}", self.sock)
        self.sock.settimeout(guard.seconds_left() + GRACE)
        return self.sock

    def send(self, data: Any) -> None:
        if self.sock is None:
            self.connect()
        self._guard = current_guard.get()
        self._guard.enter("waiting for the answer", self.sock, sending=True)
        super().send(data)


class _GuardedTlsConnection(_GuardedConnection, HTTPSConnection):
    pass


class GuardedAdapter(HTTPAdapter):
    """Sends requests on guarded connections.

    An adapter follows no redirect, repeats no request, keeps no cookie and reads nothing from the environment.
    `requests.Session` does more: even without following a redirect it reads its body without a limit (psf/requests#5529).
    """

    def get_connection_with_tls_context(self, *args: Any, **kwargs: Any) -> Any:
        """Return the pool for a request. Its new connections are guarded."""
        pool: Any = super().get_connection_with_tls_context(*args, **kwargs)
        pool.ConnectionCls = _GuardedTlsConnection if pool.scheme == "https" else _GuardedConnection
        return pool
