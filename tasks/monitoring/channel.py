"""How all parts of the side channel connect to Redis, and what they do while it is down."""
# mypy: allow-untyped-calls

from __future__ import annotations

from typing import Any

import structlog
from kombu.connection import Connection

#: Seconds that one read, write or connect may take. Only the threads of this package wait for it.
SOCKET_TIMEOUT = 2.0

#: The options of kombu's Redis transport, here and in Flower's process.
TRANSPORT_OPTIONS: dict[str, Any] = {
    "socket_timeout": SOCKET_TIMEOUT,
    "socket_connect_timeout": SOCKET_TIMEOUT,
    "socket_keepalive": True,
}

_FIRST_PAUSE = 0.2
_LONGEST_PAUSE = 5.0

log = structlog.get_logger("redrive.monitoring")


def require_certificate(url: str) -> str:
    """Return the URL with an option that verifies the certificate of a rediss:// server. kombu does not do that by default."""
    if not url.startswith("rediss://") or "ssl_cert_reqs=" in url:
        return url
    return f"{url}{'&' if '?' in url else '?'}ssl_cert_reqs=required"


def connect(url: str) -> Connection:
    """Open a connection to Redis, in one try."""
    connection = Connection(require_certificate(url), connect_timeout=SOCKET_TIMEOUT, transport_options=dict(TRANSPORT_OPTIONS))
    connection.ensure_connection(max_retries=0, reraise_as_library_errors=False)
    return connection


class Outage:
    """Logs when Redis is lost and when it is restored, and paces the tries in between.

    Args:
        user: The part that uses Redis, for the log.
    """

    def __init__(self, user: str) -> None:
        self._user = user
        self._pause = 0.0

    def note_failure(self, error: Exception) -> float:
        """Return the seconds to wait before the next try."""
        if not self._pause:
            log.warning("redis_lost", user=self._user, error=f"{type(error).__name__}: {error}", hint="tasks go on without it")
        self._pause = min(max(2 * self._pause, _FIRST_PAUSE), _LONGEST_PAUSE)
        return self._pause

    def note_success(self) -> None:
        if self._pause:
            log.info("redis_restored", user=self._user)
        self._pause = 0.0
