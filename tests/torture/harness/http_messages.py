"""HTTP/1.1 messages on asyncio streams, as much of it as a proxy and a small API need (RFC 9112)."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

_HOP_BY_HOP = {"connection", "transfer-encoding", "content-length", "expect", "keep-alive"}
#: What an SQS message and its envelope may be long.
_LONGEST = 4 * 1024 * 1024


@dataclass(kw_only=True)
class HttpMessage:
    """A request or an answer. Header names are lower case; those that belong to one hop are left out."""

    start: str
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""

    @property
    def status(self) -> int:
        return int(self.start.split()[1])

    @property
    def target(self) -> str:
        return self.start.split()[1]

    def encode(self) -> bytes:
        lines = [self.start, *(f"{name}: {value}" for name, value in self.headers.items()), f"content-length: {len(self.body)}"]
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + self.body


def answer(status: int, body: bytes = b"", **headers: str) -> HttpMessage:
    return HttpMessage(start=f"HTTP/1.1 {status} -", headers={key.replace("_", "-"): headers[key] for key in headers}, body=body)


async def read_message(reader: asyncio.StreamReader, writer: asyncio.StreamWriter | None = None) -> HttpMessage | None:
    """Return the next message; None when the other side has gone, even in the middle of one.

    `writer` says "100 Continue" to a client that waits for it, as curl does before a long body.
    """
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        start, *lines = head.rstrip("\r\n").split("\r\n")
        headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        if writer and "expect" in headers:
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = await _read_body(reader, headers)
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    return HttpMessage(start=start, headers={name: headers[name] for name in headers if name not in _HOP_BY_HOP}, body=body)


async def end(task: asyncio.Task[bytes | HttpMessage | None]) -> None:
    """Cancel the task, and take note of how it ended."""
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def _read_body(reader: asyncio.StreamReader, headers: dict[str, str]) -> bytes:
    if headers.get("transfer-encoding", "").lower() != "chunked":
        return await reader.readexactly(int(headers.get("content-length", 0)))
    body = b""
    while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
        body += await reader.readexactly(size)
        await reader.readexactly(2)
        if len(body) > _LONGEST:
            raise asyncio.IncompleteReadError(body, None)
    await reader.readuntil(b"\r\n")
    return body
