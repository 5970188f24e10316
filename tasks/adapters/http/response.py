"""An answer as it comes off the wire, by `http.client`, which takes more for HTTP than is safe.

It reads a status of `+200`, and a chunk of `-1` bytes, which is all that comes, whatever the cap. It ignores a length that it
cannot read, takes headers that the close cut off for whole, and leaves what follows an answer to the next call, as its answer.
"""

from __future__ import annotations

import http.client
import io
import re
import socket
import ssl
from contextlib import suppress
from http import HTTPStatus
from typing import Any

from urllib3.util import wait_for_read

#: Bytes of an answer's head: its status line and headers, and those of its interim answers. A chunk's line may have as many.
_MAX_HEAD = 65536
#: Interim answers that one call may get before its final one. 102 may come every few seconds of a long call, 103 a few times.
_MAX_INTERIM = 100
_STATUS_LINE = re.compile(rb"(HTTP/1\.[0-9]) +([1-9][0-9]{2})(?: +([^\r\n]*))?\r?\n")
_LENGTH = re.compile(r"[0-9]{1,18}", re.ASCII)
_CHUNK = re.compile(rb"([0-9A-Fa-f]{1,16})[ \t]*(?:;.*)?\r?\n")


class _Lines(io.BufferedReader):
    """What arrives on a connection. Its lines are whole, and no more of them are read than `left` bytes."""

    left = _MAX_HEAD
    begun = False

    def readline(self, size: int | None = -1, /) -> bytes:  # noqa: ARG002 - `http.client` bounds each line, not all of them
        """Return the next line; nothing when the connection was closed before the first. Raises HTTPException."""
        line = super().readline(self.left + 1)
        self.left -= len(line)
        if self.left < 0:
            raise http.client.HTTPException(f"more than {_MAX_HEAD} bytes of headers")
        if not line.endswith(b"\n") and (line or self.begun):
            raise http.client.HTTPException("the connection was closed in the middle of the answer")
        self.begun = True
        return line


class StrictResponse(http.client.HTTPResponse):
    """An answer that says clearly what it is and where it ends; a connection on which more is left is used no more."""

    fp: _Lines

    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self._sock = sock
        self.fp = _Lines(self.fp.detach())

    def begin(self) -> None:
        """Read the head. Raises HTTPException when it does not say clearly where the answer ends."""
        super().begin()
        codings = self._each("Content-Encoding")
        if len(codings) > 1:
            raise http.client.HTTPException(
                f"{len(codings)} content codings ({', '.join(codings)[:40]}), and at most one is taken"
            )
        lengths, transfer = set(self.headers.get_all("Content-Length", ())), self._each("Transfer-Encoding")
        if any(not _LENGTH.fullmatch(length) for length in lengths) or len(lengths) > 1:
            raise http.client.HTTPException(f"a Content-Length of {', '.join(sorted(lengths))[:40]!r}")
        if transfer not in ([], ["chunked"]):
            raise http.client.HTTPException(f"a Transfer-Encoding of {', '.join(transfer)[:40]!r}")
        self.will_close = self.will_close or bool(lengths and transfer)  # RFC 9112, section 6.3: two say where it ends

    def _each(self, name: str) -> list[str]:
        """Return the members of a header that is a list, in lower case."""
        members = ",".join(self.headers.get_all(name, ())).split(",")
        return [member.strip().lower() for member in members if member.strip()]

    def _read_status(self) -> tuple[str, int, str]:
        """Skip interim answers (RFC 9110, section 15.2), but not 101: what follows that one is no HTTP any more."""
        for _ in range(_MAX_INTERIM + 1):
            line = self.fp.readline()
            if not line:
                raise http.client.RemoteDisconnected("the connection was closed without an answer")
            found = _STATUS_LINE.fullmatch(line)
            if not found:
                raise http.client.BadStatusLine(line.decode("latin-1"))
            version, status, reason = found[1].decode(), int(found[2]), (found[3] or b"").decode("latin-1")
            if status >= HTTPStatus.OK or status == HTTPStatus.SWITCHING_PROTOCOLS:
                return version, status, reason
            http.client.parse_headers(self.fp)
        raise http.client.HTTPException(f"more than {_MAX_INTERIM} interim answers, and no final one")

    def _get_chunk_left(self) -> int | None:
        """Return the bytes left in the present chunk, or in the next one when there are none; None after the last."""
        if not self.chunk_left:
            if self.chunk_left is not None and self._safe_read(2) != b"\r\n":  # type: ignore[attr-defined]
                raise http.client.HTTPException("a chunk that is longer than it says")
            self.chunk_left = self._next_chunk()
        return self.chunk_left

    def _next_chunk(self) -> int | None:
        self.fp.left = _MAX_HEAD
        line = self.fp.readline()
        size = _CHUNK.fullmatch(line)
        if not size:
            raise http.client.HTTPException(f"a chunk of {line[:40].decode('latin-1')!r} bytes")
        if length := int(size[1], 16):
            return length
        while self.fp.readline() not in {b"\r\n", b"\n"}:
            pass
        self._close_conn()
        return None

    def _close_conn(self) -> None:
        """Let go of the connection at the end of the answer. One with anything left is shut down: urllib3 drops it then."""
        if not self.will_close and _is_left(self._sock, self.fp):
            with suppress(OSError):  # not connected any more
                socket.socket.shutdown(self._sock, socket.SHUT_RDWR)  # not SSLSocket's, which goes on in the clear
        super()._close_conn()  # type: ignore[misc]


def _is_left(sock: socket.socket, fp: io.BufferedReader) -> bool:
    """Tell whether bytes, or the close, are left: in the system, in OpenSSL, or in the reader."""
    try:
        if wait_for_read(sock, timeout=0) or (isinstance(sock, ssl.SSLSocket) and sock.pending()):
            return True
        sock.settimeout(0)  # the look into the reader waits for nothing; urllib3 sets another before the next call
        return bool(fp.peek(1)) or isinstance(sock, ssl.SSLSocket)
    except ssl.SSLWantReadError:
        return False
    except OSError:
        return True
