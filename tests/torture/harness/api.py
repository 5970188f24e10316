"""The API under Redrive: logs each call's begin and end, when its client went, and works as long and as badly as the dice say.

It keeps what the routes' settings say of it: it never works on a call for longer than the deadline and a part of the drain, nor
on one whose client has gone for longer than a part of the drain. Now and then a call is stubborn and breaks the second promise:
what follows then is told apart by the checker.
"""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

from harness.http_messages import HttpMessage, answer, end, read_message
from harness.settings import DEADLINE, DRAIN

if TYPE_CHECKING:
    from collections import Counter

    from harness.log import Log
    from harness.timetable import Dice, Throw

#: In a hundred calls.
ODDS = {"api_503": 4.0, "api_500": 2.0, "api_409": 4.0, "api_429": 0.5, "api_hangs": 1.5, "api_stubborn": 3.0, "api_slow": 20.0}
#: Seconds that the API works on after the client has gone: well within the drain, for it is told of that late on a busy machine.
_AFTER_GONE = 0.4 * DRAIN
_STUBBORN = 3 * DRAIN
_NO_CONTENT = 204
_STATUS = {"api_503": 503, "api_500": 500, "api_409": 409, "api_429": 429}


class FaultyApi:
    """PUT /ROUTE/ID. An id that can be divided by `hopeless_every` is unknown to the API: 400, always."""

    def __init__(self, log: Log, dice: Dice, counts: Counter[str], *, hopeless_every: int) -> None:
        self._log = log
        self._dice = dice
        self._counts = counts
        self._hopeless_every = hopeless_every
        self.calls = 0
        self._open = 0
        self._at_rest = asyncio.Condition()
        self.is_quiet = False
        self.port = 0

    async def start(self) -> asyncio.Server:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        return server

    async def rest(self) -> None:
        """Return when nobody is connected, and no call is worked on."""
        async with self._at_rest:
            await self._at_rest.wait_for(lambda: not self._open)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._open += 1
        try:
            while request := await read_message(reader):
                if not await self._answer(request, reader, writer):
                    break
        except (ConnectionError, asyncio.CancelledError):
            pass  # the client has gone after the call's end; or the run ends
        finally:
            writer.close()
            self._open -= 1
            async with self._at_rest:
                self._at_rest.notify_all()

    async def _answer(self, request: HttpMessage, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Work on one call; return whether its client is still there."""
        self.calls += 1
        number = self.calls
        headers = request.headers
        key = request.target.strip("/")
        fence, job = int(headers["redrive-fence"]), int(headers["redrive-job"])
        self._log.write(event="begin", call=number, key=key, job=job, fence=fence, attempt=int(headers["redrive-attempt"]))
        throw = self._dice.throw()
        fault = "" if self.is_quiet else throw.fault
        self._counts[fault] += 1
        status = self._status(key, fault)
        gone = asyncio.create_task(reader.read(1))
        began = time.monotonic()
        await asyncio.wait({gone}, timeout=_work(fault, throw))
        if gone.done():
            self._log.write(event="gone", call=number)
            allowed = _STUBBORN if fault == "api_stubborn" else _AFTER_GONE
            left = _work(fault, throw) - (time.monotonic() - began)
            await asyncio.sleep(allowed if fault == "api_stubborn" else min(max(left, 0.0), allowed))
        self._log.write(event="end", call=number, status=status)
        is_gone = gone.done()
        await end(gone)
        if is_gone:
            return False
        retry_after = {"retry_after": "1"} if status == _STATUS["api_429"] else {}
        writer.write(
            answer(status, b"" if status == _NO_CONTENT else b"{}", content_type="application/json", **retry_after).encode()
        )
        await writer.drain()
        return True

    def _status(self, key: str, fault: str) -> int:
        if int(key.rpartition("/")[2]) % self._hopeless_every == 0:
            return 400
        return _STATUS.get(fault, _NO_CONTENT if self.calls % 2 else 200)


def _work(fault: str, throw: Throw) -> float:
    """Return the seconds that a call takes."""
    if fault in {"api_hangs", "api_stubborn"}:
        return DEADLINE + _AFTER_GONE
    return throw.share * (0.6 * DEADLINE if fault == "api_slow" else 0.03)
