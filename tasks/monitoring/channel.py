"""The connection to Redis that everything of monitoring shares, and its patience."""
# mypy: allow-untyped-calls

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kombu.connection import Connection

if TYPE_CHECKING:
    from collections.abc import Iterator

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


def connect(url: str) -> Connection:
    """Return a connection, not yet opened, to the Redis at `url`."""
    return Connection(url, connect_timeout=SOCKET_TIMEOUT, transport_options=dict(TRANSPORT_OPTIONS))


def pauses() -> Iterator[float]:
    """Yield the seconds to wait before each next try to reach Redis, for ever."""
    pause = _FIRST_PAUSE
    while True:
        yield pause
        pause = min(2 * pause, _LONGEST_PAUSE)
