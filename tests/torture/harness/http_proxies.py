"""Proxies before the API and before SQS: they cut, delay, drip, garble and swallow what passes, as the dice say."""

from __future__ import annotations

import asyncio
import json
from collections import deque
from typing import TYPE_CHECKING, Any

from harness.http_messages import HttpMessage, answer, end, read_message
from harness.proxy import Port
from harness.settings import DEADLINE, SUBMIT

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable

    from harness.log import Log
    from harness.timetable import Dice, Throw

#: In a hundred requests.
API_ODDS = {
    "api_cut_before": 4.0,
    "api_cut_before_answer": 5.0,
    "api_cut_in_answer": 3.0,
    "api_drip": 8.0,
    "api_drip_past_deadline": 1.0,
    "api_delayed": 65.0,
}
SQS_ODDS = {
    "sqs_cut_before": 1.5,
    "sqs_cut_before_answer": 2.0,
    "sqs_error": 1.5,
    "sqs_cut_in_answer": 1.0,
    "sqs_repeated": 20.0,
    "sqs_delayed": 70.0,
}
_REMEMBERED = 200
_OK = 200


class Wire(Port):
    """The proxy before the API: it knows HTTP."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while request := await read_message(reader, writer):
            if not await self._pass_on(request, reader, writer):
                break

    async def _pass_on(self, request: HttpMessage, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Pass one request and its answer on; return whether the connection stays."""
        throw = self.throw(self.dice)
        fault = throw.fault
        self.note_request(request)
        if (made_up := self.made_up(request, fault, throw)) is not None:
            self.counts[fault] += 1
            writer.write(made_up.encode())
            return True
        if fault == "sqs_repeated":  # there is nothing to repeat
            fault = "sqs_delayed"
        self.counts[fault] += 1
        what = fault.removeprefix(f"{self.name}_")
        if what == "cut_before":
            return False
        gone = asyncio.create_task(reader.read(1))
        try:
            if what == "delayed":
                await asyncio.wait({gone}, timeout=0.005 + 0.05 * throw.share)
            got = None if gone.done() else await self._ask(request, gone)
        finally:
            await end(gone)
        if got is None:
            return False
        self.note_answer(request, got)
        return await _answer(what, got, throw, writer)

    async def _ask(self, request: HttpMessage, gone: asyncio.Task[bytes]) -> HttpMessage | None:
        """Return the upstream's answer; None when either side has gone. Who is behind sees at once that the client went."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.upstream)
        asked = asyncio.create_task(read_message(reader))
        try:
            writer.write(request.encode())
            await asyncio.wait({asked, gone}, return_when=asyncio.FIRST_COMPLETED)
            return asked.result() if asked.done() else None
        finally:
            await end(asked)
            writer.transport.abort()

    def note_request(self, request: HttpMessage) -> None:
        """Look at what passes."""

    def note_answer(self, request: HttpMessage, got: HttpMessage) -> None:
        """Look at what comes back."""

    def made_up(self, request: HttpMessage, fault: str, throw: Throw) -> HttpMessage | None:  # noqa: ARG002 - for subclasses
        """Return an answer that the upstream does not know of."""
        return None


async def _answer(what: str, got: HttpMessage, throw: Throw, writer: asyncio.StreamWriter) -> bool:
    """Hand the answer to the client, or a part of it; return whether the connection stays."""
    data = got.encode()
    if what == "cut_before_answer":
        return False
    if what == "cut_in_answer":
        writer.write(data[: int(len(data) * throw.share)])
        await writer.drain()
        return False
    if what in {"drip", "drip_past_deadline"}:
        seconds = throw.share * 0.3 * DEADLINE if what == "drip" else 2 * DEADLINE
        for byte in data[:-1]:
            writer.write(bytes([byte]))
            await asyncio.sleep(seconds / len(data))
            if writer.is_closing():
                return False
        data = data[-1:]
    writer.write(data)
    await writer.drain()
    return True


class SqsWire(Wire):
    """The proxy before SQS. It knows which messages Redrive has asked to delete, and hands out remembered ones again."""

    def __init__(self, dice: Dice, counts: Counter[str], log: Log) -> None:
        super().__init__("sqs", dice, counts)
        self._log = log
        self.on_submitted: Callable[[str, str], None] = lambda _identity, _body: None
        self._ids: dict[str, str] = {}  # by receipt handle
        self._remembered: dict[str, deque[dict[str, Any]]] = {}  # by queue

    def note_request(self, request: HttpMessage) -> None:
        """Log what Redrive asks to delete, whether or not SQS hears of it: from here on it is Redrive's to keep."""
        if _action(request) in {"DeleteMessage", "DeleteMessageBatch"}:
            asked = json.loads(request.body)
            handles = [each["ReceiptHandle"] for each in asked.get("Entries", [asked])]
            self._log.write(event="deleted", identities=[self._ids[handle] for handle in handles if handle in self._ids])

    def note_answer(self, request: HttpMessage, got: HttpMessage) -> None:
        """Remember what is handed out, and tell what a Celery producer has brought."""
        if got.status != _OK or _action(request) not in {"ReceiveMessage", "SendMessage"}:
            return
        asked = json.loads(request.body)
        queue = asked["QueueUrl"].rpartition("/")[2]
        if _action(request) == "ReceiveMessage":
            for message in json.loads(got.body or b"{}").get("Messages", []):
                self._ids[message["ReceiptHandle"]] = message["MessageId"]
                self._remembered.setdefault(queue, deque(maxlen=_REMEMBERED)).append(message)
        elif queue == SUBMIT:
            self.on_submitted(json.loads(got.body)["MessageId"], asked["MessageBody"])

    def made_up(self, request: HttpMessage, fault: str, throw: Throw) -> HttpMessage | None:
        """Answer a receive with messages that were handed out before: some just now, some long ago."""
        kind = "application/x-amz-json-1.0"
        if fault == "sqs_error":
            error = {"__type": "com.amazonaws.sqs#InternalFailure", "message": "torture"}
            return answer(500 if throw.share < 0.5 else 503, json.dumps(error).encode(), content_type=kind)
        if fault != "sqs_repeated" or _action(request) != "ReceiveMessage":
            return None
        asked = json.loads(request.body)
        known = self._remembered.get(asked["QueueUrl"].rpartition("/")[2])
        if not known:
            return None
        first = int(throw.share * len(known))
        again = list(known)[first : first + min(3, int(asked.get("MaxNumberOfMessages", 1)))]
        return answer(200, json.dumps({"Messages": again}).encode(), content_type=kind)


def _action(request: HttpMessage) -> str:
    return request.headers.get("x-amz-target", "").rpartition(".")[2]
