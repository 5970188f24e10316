"""What surrounds Redrive in a run: the API and the two proxies on an event loop, and the observer of the ledger."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import threading
from contextlib import closing
from typing import TYPE_CHECKING

from torture_api import ODDS, Api
from torture_plan import Dice
from torture_wire import API_ODDS, SQS_ODDS, SqsWire, Wire

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Coroutine
    from pathlib import Path
    from typing import Any

    from torture_log import Log

HOPELESS_EVERY = 11
_LOOK_EVERY = 0.2


class World:
    """Servers on a thread of their own."""

    def __init__(self, seed: int, counts: Counter[str], api_log: Log, sqs_log: Log) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="world", daemon=True)
        self._servers: list[asyncio.Server] = []
        self.api = Api(api_log, Dice(seed, "api", ODDS), counts, hopeless_every=HOPELESS_EVERY)
        self.wires = {
            "api": Wire("api", Dice(seed, "api-wire", API_ODDS), counts),
            "broker": SqsWire(Dice(seed, "sqs-wire", SQS_ODDS), counts, sqs_log),
        }

    def start(self) -> None:
        self._thread.start()
        self._servers = [self._run(start()) for start in (self.api.start, *(wire.start for wire in self.wires.values()))]
        self.wires["api"].upstream = self.api.port

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
            for server in self._servers:
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


class Observer:
    """Somebody who looks at the ledger now and then, and writes down what is covered: so nothing can be taken back later."""

    def __init__(self, file: Path, log: Log, on_error: Callable[[str], None]) -> None:
        self._file = file
        self._log = log
        self._on_error = on_error
        self._seen: dict[int, int] = {}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="observer", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(_LOOK_EVERY):
            try:
                self.look()
            except sqlite3.Error as error:
                self._on_error(f"the observer could not read the ledger: {error}")

    def look(self) -> None:
        with closing(sqlite3.connect(f"file:{self._file}?mode=ro", uri=True, timeout=5)) as ledger:
            rows = ledger.execute("SELECT id, route, key, covered_seq FROM jobs").fetchall()
        for job, route, key, covered in rows:
            if self._seen.get(job, 0) < covered:
                self._seen[job] = covered
                self._log.write(key=f"{route}/{json.loads(key)['id']}", covered=covered)
