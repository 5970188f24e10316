"""The ledger under torture as a file of SQLite's: read past Redrive, locked, and its disk filled."""

from __future__ import annotations

import sqlite3
import threading
import time
from abc import ABC, abstractmethod
from contextlib import closing
from typing import TYPE_CHECKING, Any

from harness.machine import fill, small_disk

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path


class UnreadableError(Exception):
    """The ledger could not be read just now."""


class TorturedLedger(ABC):
    """What a run does to a ledger, and how it reads it. `url` is where Redrive finds it, `direct` where the checker does."""

    url: str
    direct: str

    def __init__(self, folder: Path, say: Callable[[str], None]) -> None:
        self.folder = folder
        self.say = say
        self._locks: list[threading.Thread] = []

    @abstractmethod
    def query(self, statement: str) -> list[Any]:
        """Return the statement's rows. Raises UnreadableError."""

    @abstractmethod
    def hold(self, seconds: float) -> None:
        """Hold a lock that whoever writes waits for. Tells when it could not be had."""

    def actions(self) -> Mapping[str, Callable[[], object]]:
        """Return what can be done to it besides the lock, by the names of the plan's steps. An action returns False in vain."""
        return {}

    def close(self) -> None:  # noqa: B027 - a file needs nothing
        """End its server, if it has one."""

    def mend(self) -> None:
        """Undo all harm."""
        for lock in self._locks:
            lock.join()

    def lock(self, seconds: float) -> None:
        """Hold a lock from now on."""
        self._locks.append(threading.Thread(target=self.hold, args=(seconds,), daemon=True))
        self._locks[-1].start()

    def is_there(self) -> bool:
        try:
            self.query("SELECT count(*) FROM attempts")
        except UnreadableError:
            return False
        return True


class SqliteLedger(TorturedLedger):
    """A file on a small disk of its own, where the machine has what that takes."""

    def __init__(self, folder: Path, say: Callable[[str], None]) -> None:
        super().__init__(folder, say)
        self._where = folder / "ledger"
        self._where.mkdir()
        self._file = self._where / "ledger.db"
        self.url = self.direct = f"sqlite:///{self._file}"
        why = small_disk(self._where)
        if why:
            say(f"the disk will not be full: {why}")
        self._has_small_disk = not why

    def query(self, statement: str) -> list[Any]:
        try:
            with closing(sqlite3.connect(f"file:{self._file}?mode=ro", uri=True, timeout=5)) as ledger:
                return ledger.execute(statement).fetchall()
        except sqlite3.Error as error:
            raise UnreadableError(str(error)) from error

    def hold(self, seconds: float) -> None:
        with closing(sqlite3.connect(self._file, timeout=5, isolation_level=None)) as ledger:
            try:
                ledger.execute("BEGIN EXCLUSIVE")
            except sqlite3.OperationalError as error:
                self.say(f"the ledger could not be locked: {error}")
                return
            time.sleep(seconds)
            ledger.execute("ROLLBACK")

    def actions(self) -> Mapping[str, Callable[[], object]]:
        return {"fill": self._fill, "free": self._free}

    def mend(self) -> None:
        super().mend()
        self._free()

    def _fill(self) -> bool:
        if self._has_small_disk:
            fill(self._where)
        return self._has_small_disk

    def _free(self) -> None:
        (self._where / "filler").unlink(missing_ok=True)
