"""Socket servers on the loopback that break the rules of HTTP. Each connection has a thread that plays a script."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING

from waiting import TEST_TIMEOUT

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable
    from types import TracebackType
    from typing import Self

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Peer:
    """One accepted connection, as its script sees it."""

    def __init__(self, server: HostileServer, sock: socket.socket) -> None:
        self.server = server
        self.sock = sock

    def read_request(self) -> bytes:
        """Return the next request's head, and note it; empty when the client has gone."""
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            more = self.sock.recv(1)
            if not more:
                return b""
            head += more
        self.server.requests.append(head)
        return head

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)
        self.server.sent += len(data)

    def drip(self, data: bytes = b"x") -> None:
        """Send `data` for ever, a byte every 20 ms."""
        while True:
            for index in range(len(data)):
                self.send(data[index : index + 1])
                if self.server.over.wait(0.02):
                    return

    def flood(self, data: bytes) -> None:
        """Send `data` for ever, as fast as the client takes it."""
        while not self.server.over.is_set():
            self.send(data)

    def hang(self) -> None:
        """Keep the connection open and silent until the client goes."""
        while self.sock.recv(1024):
            pass

    def reset(self) -> None:
        """Close with a RST instead of a FIN."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.sock.close()


class HostileServer:
    """Listens on a free port of 127.0.0.1 and plays `script` on each connection.

    It counts the connections (`accepted`) and the bytes that it has sent. `gone` is set when a connection has ended.
    """

    def __init__(self, script: Callable[[Peer], None], *, tls: ssl.SSLContext | None = None) -> None:
        self.accepted = 0
        self.sent = 0
        self.requests: list[bytes] = []
        self.over = threading.Event()
        self.gone = threading.Event()
        self._script = script
        self._tls = tls
        self._peers: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]

    def url(self, path: str = "/employees/{employeeId}", *, scheme: str = "http", host: str = "127.0.0.1") -> str:
        return f"{scheme}://{host}:{self.port}{path}"

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.over.set()
        for sock in (self._listener, *self._peers):
            with suppress(OSError):
                socket.socket.shutdown(sock, socket.SHUT_RDWR)
            sock.close()
        for thread in self._threads:
            thread.join(TEST_TIMEOUT)
            assert not thread.is_alive()

    def _start(self, work: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=work, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                self.accepted += 1
                self._peers.append(sock)
                self._start(self._play, sock)

    def _play(self, sock: socket.socket) -> None:
        with suppress(OSError):
            if self._tls:
                sock = self._tls.wrap_socket(sock, server_side=True)
                self._peers.append(sock)
            with sock:
                self._script(Peer(self, sock))
        self.gone.set()


def answer(*answers: bytes, then_close: bool = False) -> Callable[[Peer], None]:
    """Return a script that gives each request of a connection the next of `answers`, and the last one for ever."""

    def script(peer: Peer) -> None:
        left = list(answers)
        while peer.read_request():
            peer.send(left.pop(0) if len(left) > 1 else left[0])
            if then_close and len(left) == 1:
                return

    return script


def after_request(act: Callable[[Peer], None], first: bytes = b"") -> Callable[[Peer], None]:
    """Return a script that reads a request, sends `first` and then does `act`."""

    def script(peer: Peer) -> None:
        if peer.read_request():
            peer.send(first)
            act(peer)

    return script


def status(code: int, body: bytes = b"", **headers: str) -> bytes:
    """Return a whole answer."""
    lines = [
        f"HTTP/1.1 {code} Status",
        f"Content-Length: {len(body)}",
        *(f"{k.replace('_', '-')}: {v}" for k, v in headers.items()),
    ]
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body
