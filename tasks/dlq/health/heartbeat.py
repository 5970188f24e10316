"""The heartbeat: a thread that commits a row to the ledger every few seconds, as long as the work of its process goes on.

Each heartbeat opens a new connection and commits. So it needs what work needs: a file descriptor, an answer from the ledger and
disk space. Without one of them there is no heartbeat. Work never waits for it.
"""

from __future__ import annotations

import threading
from contextlib import closing
from typing import TYPE_CHECKING

import structlog

from tasks.dlq.errors import RedriveError
from tasks.dlq.ledger.processes import record_heartbeat, remove_process
from tasks.dlq.process import HEARTBEAT_INTERVAL

if TYPE_CHECKING:
    from collections.abc import Callable

    from tasks.dlq.ledger import Ledger
    from tasks.dlq.process import Process

log = structlog.get_logger("redrive.heartbeat")

#: Seconds that `stop` waits for the thread: the end of the process cuts off a commit that hangs.
_STOP_TIMEOUT = 2.0


class Heartbeat:
    """The heartbeat of one process.

    Args:
        process: What the row says.
        open_ledger: Returns a new connection pool; the heartbeat closes it.
        is_working: Tells whether the work of the process goes on.
        interval: Seconds between two heartbeats.
    """

    def __init__(
        self,
        process: Process,
        open_ledger: Callable[[], Ledger],
        is_working: Callable[[], bool],
        *,
        interval: float = HEARTBEAT_INTERVAL,
    ) -> None:
        self._process = process
        self._open_ledger = open_ledger
        self._is_working = is_working
        self._interval = interval
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="redrive-heartbeat", daemon=True)
        self._failed = False

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop the thread within two seconds. It removes the row if the ledger answers in that time."""
        self._stopped.set()
        self._thread.join(_STOP_TIMEOUT)

    def beat(self) -> bool:
        """Commit one heartbeat; tell whether that worked. Logs the first failure and the first success after it."""
        error = self._try(self._record) if self._is_working() else "the work of this process stands still"
        if error and not self._failed:
            log.warning("heartbeat_lost", process=self._process.name, error=error, hint="health checks: not ready")
        elif self._failed and not error:
            log.info("heartbeat_restored", process=self._process.name)
        self._failed = error is not None
        return error is None

    def _run(self) -> None:
        while not self._stopped.is_set():
            self.beat()
            self._stopped.wait(self._interval)
        self._try(lambda ledger: ledger.transact(lambda tx: remove_process(tx, self._process)))

    def _record(self, ledger: Ledger) -> None:
        ledger.check_disk_space()
        ledger.transact(lambda tx: record_heartbeat(tx, self._process))

    def _try(self, act: Callable[[Ledger], None]) -> str | None:
        """Act on the ledger; return the error, if there was one."""
        try:
            with closing(self._open_ledger()) as ledger:
                act(ledger)
        except RedriveError as error:
            return error.message
        except Exception as error:  # noqa: BLE001 - work goes on without a heartbeat, whatever the error
            return f"{type(error).__name__}: {error}"
        return None
