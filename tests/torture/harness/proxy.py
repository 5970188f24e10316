"""A proxy's port, and the proxy for protocols in which both sides talk: it cuts and delays what passes, as the dice say."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Coroutine
    from typing import Any

    from harness.timetable import Dice, Throw

#: What the other side, or the end of the run, does to those who read and write.
GONE = (ConnectionError, TimeoutError, asyncio.IncompleteReadError, asyncio.CancelledError)


class Port(ABC):
    """A loopback port before `upstream`, which may change. While it is cut it takes nobody; while it is quiet it does no harm."""

    def __init__(self, name: str, dice: Dice, counts: Counter[str]) -> None:
        self.name = name
        self.dice = dice
        self.counts = counts
        self._open: set[asyncio.StreamWriter] = set()
        self.upstream = 0
        self.port = 0
        self.is_quiet = False
        self.is_cut = False

    async def start(self) -> asyncio.Server:
        server = await asyncio.start_server(self._take, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        return server

    def cut(self) -> None:
        """Take nobody any more, and drop everybody. To be called on the loop."""
        self.is_cut = True
        for writer in list(self._open):
            writer.transport.abort()

    def mend(self) -> None:
        self.is_cut = False

    def throw(self, dice: Dice) -> Throw:
        """Throw for what comes next."""
        thrown = dice.throw()
        return replace(thrown, fault="") if self.is_quiet else thrown

    @abstractmethod
    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one client, until either side is gone."""

    async def _take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open.add(writer)
        try:
            if not self.is_cut:
                await self.serve(reader, writer)
        except GONE:
            pass  # one side is gone, and so is the other
        finally:
            self._open.discard(writer)
            writer.transport.abort()


class Tube(Port):
    """Passes requests and answers on as they come."""

    async def read(self, reader: asyncio.StreamReader) -> bytes:
        """Return what comes next, from either side; empty at its end."""
        return await reader.read(65536)

    def translated(self, data: bytes) -> bytes:
        """Return what becomes of an answer."""
        return data

    def dice_for(self, _request: bytes) -> Dice:
        return self.dice

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.upstream)
        asked: list[Throw] = []  # what is to happen to the next answer
        try:
            await _first_of(self._requests(reader, far_writer, asked), self._answers(far_reader, writer, asked))
        finally:
            far_writer.transport.abort()

    async def _requests(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, asked: list[Throw]) -> None:
        while data := await self.read(reader):
            throw = self.throw(self.dice_for(data))
            self.counts[throw.fault] += 1
            match throw.fault.removeprefix(f"{self.name}_"):
                case "cut_before":
                    return
                case "cut_before_answer" | "cut_in_answer":
                    asked.append(throw)
                case "delayed":
                    await asyncio.sleep(0.002 + 0.03 * throw.share)
            writer.write(data)
            await writer.drain()

    async def _answers(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, asked: list[Throw]) -> None:
        while data := await self.read(reader):
            data = self.translated(data)
            if asked:
                if asked[0].fault.endswith("cut_in_answer"):
                    writer.write(data[: int(len(data) * asked[0].share)])
                    await writer.drain()
                return
            writer.write(data)
            await writer.drain()


async def _first_of(*works: Coroutine[Any, Any, None]) -> None:
    """Do all at once until the first of them is done; then end the others."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        for task in tasks:
            with suppress(*GONE):
                await task
