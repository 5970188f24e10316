"""What surrounds Redrive in a run: the API and the proxies on an event loop, and the observer of the ledger."""

from __future__ import annotations

import asyncio
import json
import threading
import time
from typing import TYPE_CHECKING

from harness.api import ODDS, FaultyApi
from harness.http_proxies import API_ODDS, SQS_ODDS, SqsWire, Wire
from harness.kafka import KafkaWire
from harness.ledger import UnreadableError
from harness.postgresql import PostgresqlWire
from harness.timetable import Dice

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Coroutine
    from typing import Any

    from harness.ledger import TorturedLedger
    from harness.log import Log
    from harness.proxy import Port

HOPELESS_EVERY = 11
_LOOK_EVERY = 0.2
_STALLED = 0.1
_LATE_IDS = 500


class Servers:
    """Servers on a thread of their own."""

    def __init__(self, seed: int, counts: Counter[str], api_log: Log, sqs_log: Log) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="servers", daemon=True)
        self._listening: list[asyncio.Server] = []
        self.api = FaultyApi(api_log, Dice(seed, "api", ODDS), counts, hopeless_every=HOPELESS_EVERY)
        self.sqs = SqsWire(Dice(seed, "sqs-wire", SQS_ODDS), counts, sqs_log)
        self.wires: dict[str, Port] = {
            "api": Wire("api", Dice(seed, "api-wire", API_ODDS), counts),
            "broker": self.sqs,
            "kafka": KafkaWire(seed, counts),
            "ledger": PostgresqlWire(seed, counts),
        }
        self._stalls = Stalls(api_log)

    def start(self) -> None:
        self._thread.start()
        self._listening = [self._run(start()) for start in (self.api.start, *(wire.start for wire in self.wires.values()))]
        self.wires["api"].upstream = self.api.port
        asyncio.run_coroutine_threadsafe(self._stalls.watch(), self._loop)

    def cut(self, name: str) -> None:
        self._loop.call_soon_threadsafe(self.wires[name].cut)

    def mend(self, name: str) -> None:
        self._loop.call_soon_threadsafe(self.wires[name].mend)

    def be_quiet(self) -> None:
        """Do no more harm."""
        self.api.is_quiet = True
        for name, wire in self.wires.items():
            wire.is_quiet = True
            self.mend(name)

    def close(self) -> None:
        async def end() -> None:
            for server in self._listening:
                server.close()
            own = asyncio.current_task()
            tasks = [task for task in asyncio.all_tasks() if task is not own]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

        self._run(end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=30)


class Stalls:
    """Notes when the event loop stood still: what happened meanwhile was seen late, and in any order."""

    def __init__(self, log: Log) -> None:
        self._log = log

    async def watch(self) -> None:
        while True:
            before = time.monotonic()
            await asyncio.sleep(_LOOK_EVERY / 4)
            late = time.monotonic() - before - _LOOK_EVERY / 4
            if late > _STALLED:
                self._log.write(event="stalled", since=before, seconds=late)


class Observer:
    """Somebody who looks at the ledger now and then, and writes down what is there and covered: nothing can be made up later."""

    def __init__(self, ledger: TorturedLedger, log: Log, on_error: Callable[[str], None]) -> None:
        self._ledger = ledger
        self._log = log
        self._on_error = on_error
        self._covered: dict[int, int] = {}
        self._letters: set[int] = set()
        self._looked = 0.0
        self.letters = 0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="observer", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        told = False
        while not self._stop.wait(_LOOK_EVERY):
            try:
                self.look()
                told = False
            except UnreadableError as error:
                if not told:
                    self._on_error(f"the observer could not read the ledger: {error}")
                told = True

    def look(self) -> None:
        """Note what is covered since the last look, and which letters are there that were not there then."""
        began = time.monotonic()
        # Ids commit out of order: those that were missing among the latest may be there now.
        since = max(self._letters, default=0) - _LATE_IDS
        latest = f"SELECT id FROM dead_letters WHERE id > {since:d}"  # noqa: S608 - a number of our own
        letters = {row[0] for row in self._ledger.query(latest)} - self._letters
        if letters:
            self._letters |= letters
            self._log.write(letters=sorted(letters), after=self._looked)
        self.letters = len(self._letters)
        for job, route, key, covered in self._ledger.query("SELECT id, route, key, covered_seq FROM jobs"):
            if self._covered.get(job, 0) < covered:
                self._covered[job] = covered
                self._log.write(key=f"{route}/{json.loads(key)['id']}", covered=covered)
        self._looked = began
