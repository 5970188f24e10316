"""The connection to Redis that everything of monitoring shares, and its patience."""
# mypy: allow-untyped-calls

from __future__ import annotations

import logging
from typing import Any

from kombu.connection import Connection

#: Seconds that one read, write or connect may take. Only monitoring's own threads ever wait for it.
SOCKET_TIMEOUT = 2.0

#: How kombu's Redis transport is set up, here and in Flower's process.
TRANSPORT_OPTIONS: dict[str, Any] = {
    "socket_timeout": SOCKET_TIMEOUT,
    "socket_connect_timeout": SOCKET_TIMEOUT,
    "socket_keepalive": True,
}

_FIRST_PAUSE = 0.2
_LONGEST_PAUSE = 5.0

logger = logging.getLogger(__name__)


def verified(url: str) -> str:
    """Return `url` so that a rediss:// server has to show a good certificate: kombu by itself asks for none."""
    if not url.startswith("rediss://") or "ssl_cert_reqs=" in url:
        return url
    return f"{url}{'&' if '?' in url else '?'}ssl_cert_reqs=required"


def connect(url: str) -> Connection:
    """Open a connection to the Redis at `url`, at once or not at all: when to try again is `Outage`'s to say."""
    connection = Connection(verified(url), connect_timeout=SOCKET_TIMEOUT, transport_options=dict(TRANSPORT_OPTIONS))
    connection.ensure_connection(max_retries=0, reraise_as_library_errors=False)
    return connection


class Outage:
    """Tells once that Redis is away and once that it is back, and how long to leave it alone meanwhile."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._pause = 0.0

    def goes_on(self, error: Exception) -> float:
        """Note a failure; return the seconds to wait before the next try."""
        if not self._pause:
            logger.warning("%s: Redis is away, tasks go on without it. %s: %s", self._what, type(error).__name__, error)
        self._pause = min(max(2 * self._pause, _FIRST_PAUSE), _LONGEST_PAUSE)
        return self._pause

    def is_over(self) -> None:
        """Note that something came through."""
        if self._pause:
            logger.info("%s: Redis is back.", self._what)
        self._pause = 0.0
