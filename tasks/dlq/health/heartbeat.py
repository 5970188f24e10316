"""The heartbeat: a thread beside a process's work that notes in the ledger, every few seconds, that the process is alive.

Each beat opens a connection of its own and commits: it takes what work takes, a file descriptor, an answer and a place on the
disk. Where one of them is missing no beat comes, and the process counts as ill until one comes again. Work never waits for it.
"""

from __future__ import annotations

import threading
from contextlib import closing
from typing import TYPE_CHECKING

import structlog

from tasks.dlq.errors import RedriveError
from tasks.dlq.ledger.processes import forget, see
from tasks.dlq.process import HEARTBEAT

if TYPE_CHECKING:
    from collections.abc import Callable

    from tasks.dlq.ledger import Ledger
    from tasks.dlq.process import Process

log = structlog.get_logger("redrive.heart")

#: Seconds that the end of a process waits for its heart: a beat that hangs in the ledger is left to the end of the process.
_PATIENCE = 2.0


class Heart:
    """Beats for one process as long as `alive` says that its own work goes on."""

    def __init__(
        self, process: Process, ledger: Callable[[], Ledger], alive: Callable[[], bool], *, every: float = HEARTBEAT
    ) -> None:
        self._process = process
        self._ledger = ledger
        self._alive = alive
        self._every = every
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="redrive-heart", daemon=True)
        self._ill: str | None = None

    def start(self) -> None:
        """Begin to beat."""
        self._thread.start()

    def stop(self) -> None:
        """End within two seconds, and take the row along if the ledger answers as soon."""
        self._ended.set()
        self._thread.join(_PATIENCE)

    def beat(self) -> bool:
        """Beat once; tell whether it came to the ledger. A change is logged, once."""
        ill = self._try(self._see) if self._alive() else "its own work stands still"
        if ill and not self._ill:
            log.warning("no heartbeat: this process counts as ill", process=self._process.name, error=ill)
        elif self._ill and not ill:
            log.info("the heartbeat is back", process=self._process.name)
        self._ill = ill
        return ill is None

    def _run(self) -> None:
        while not self._ended.is_set():
            self.beat()
            self._ended.wait(self._every)
        self._try(self._forget)

    def _see(self, ledger: Ledger) -> None:
        ledger.check_room()
        ledger.transact(lambda tx: see(tx, self._process))

    def _forget(self, ledger: Ledger) -> None:
        ledger.transact(lambda tx: forget(tx, self._process))

    def _try(self, act: Callable[[Ledger], None]) -> str | None:
        """Do it in the ledger; return why it could not be done."""
        try:
            with closing(self._ledger()) as ledger:
                act(ledger)
        except RedriveError as error:
            return error.message
        except Exception as error:  # noqa: BLE001 - whatever it is, work goes on without a heartbeat
            return f"{type(error).__name__}: {error}"
        return None
