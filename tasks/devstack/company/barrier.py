"""A barrier for consumers in different processes: all of them read before one of them writes, so a version conflict is certain.

A client connects and sends a line with its timeout in seconds and the name of the barrier. The answer is the line "together" when
all parties have come, or "alone" after the timeout. The timeout matters after a rebalance: two parties may then be one consumer.
"""

from __future__ import annotations

import socket
import socketserver
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def serve_barriers(parties: int) -> Iterator[int]:
    """Serve barriers for so many parties each. Yields the port on 127.0.0.1."""
    barriers: dict[str, threading.Barrier] = {}
    lock = threading.Lock()

    class Handler(socketserver.StreamRequestHandler):
        def handle(self) -> None:
            timeout, name = self.rfile.readline(200).decode().split()
            with lock:
                barrier = barriers.setdefault(name, threading.Barrier(parties))
            try:
                barrier.wait(float(timeout))
            except threading.BrokenBarrierError:
                self.wfile.write(b"alone\n")
            else:
                self.wfile.write(b"together\n")

    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def wait_at_barrier(port: int, name: str, *, timeout: float) -> bool:
    """Wait for the other parties for at most `timeout` seconds. Return whether they came."""
    with socket.create_connection(("127.0.0.1", port)) as connection, connection.makefile("rw") as lines:
        lines.write(f"{timeout} {name}\n")
        lines.flush()
        return lines.readline() == "together\n"
