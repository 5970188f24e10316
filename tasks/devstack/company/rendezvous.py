"""Lets consumers meet between reading and writing, so that a version conflict is arranged and not a matter of luck.

A party connects, sends the seconds that it has, a blank, the name of the meeting and a newline. It gets "together" when all have
come, or "alone" when the others did not come in time (a rebalance may have put two messages of a meeting into one pair of hands).
"""

from __future__ import annotations

import socket
import socketserver
import threading
from typing import Self

#: Seconds that the first to come waits for the others.
PATIENCE = 3.0


class Rendezvous:
    """The meeting place: a context manager that listens on a free loopback port."""

    def __init__(self, parties: int) -> None:
        self._server = _Server(parties)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    @property
    def port(self) -> int:
        """Where it listens on 127.0.0.1."""
        port: int = self._server.server_address[1]
        return port

    def __enter__(self) -> Self:
        """Open the doors."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Close them; who waits goes on alone."""
        self._server.shutdown()
        self._thread.join()
        self._server.send_home()
        self._server.server_close()


def meet(port: int, meeting: str, *, patience: float = PATIENCE) -> bool:
    """Wait for the others for so many seconds, and return whether they came."""
    with socket.create_connection(("127.0.0.1", port)) as connection, connection.makefile("rw") as lines:
        lines.write(f"{patience} {meeting}\n")
        lines.flush()
        return lines.readline() == "together\n"


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True

    def __init__(self, parties: int) -> None:
        super().__init__(("127.0.0.1", 0), _Party)
        self._parties = parties
        self._lock = threading.Lock()
        self._meetings: dict[str, threading.Barrier] = {}

    def wait(self, meeting: str, patience: float) -> bool:
        with self._lock:
            barrier = self._meetings.setdefault(meeting, threading.Barrier(self._parties))
        try:
            barrier.wait(patience)
        except threading.BrokenBarrierError:
            return False
        return True

    def send_home(self) -> None:
        with self._lock:
            for barrier in self._meetings.values():
                barrier.abort()


class _Party(socketserver.StreamRequestHandler):
    server: _Server

    def handle(self) -> None:
        patience, meeting = self.rfile.readline(200).decode().split()
        self.wfile.write(b"together\n" if self.server.wait(meeting, float(patience)) else b"alone\n")
