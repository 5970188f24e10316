"""Continuous intake: one thread per source, so that no source waits for another's long poll or outage."""

from __future__ import annotations

import signal
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

import structlog

from tasks.dlq.errors import LedgerNewer, LedgerOutdated, OutOfReach
from tasks.dlq.process import LIVENESS_INTERVAL
from tasks.dlq.shortage import as_out_of_reach

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from tasks.dlq.ledger.dead_letters import Recorded
    from tasks.dlq.ports import Record, Source
    from tasks.dlq.reading.reader import Reader
    from tasks.dlq.services.intake import Intake
    from tasks.runtime import Runtime

log = structlog.get_logger("redrive.intake")

#: The log event of an intake that reads its sources. `redrive up` waits for it.
STARTED_EVENT = "intake_started"
#: Seconds of a long poll: the most that SQS allows.
LONG_POLL = 20.0
#: Seconds of a poll that follows another. A poll of 0 s asks some of SQS' servers only, and may miss a message.
SHORT_POLL = 1.0
#: Seconds until a part that does not answer is tried again: doubled each time, up to the longest.
_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 30.0
#: Seconds for the current batches at the end: for a commit that waits for SQLite's lock, and a deletion.
_GRACE = 30.0
#: Seconds without a new poll or pause after which a thread counts as stuck: for a poll, SQS' retries and a slow commit.
_STUCK_AFTER = 240.0


def drain_continuously(runtime: Runtime, note_turn: Callable[[], None] = lambda: None) -> bool:
    """Drain every source until SIGINT or SIGTERM; return False if a thread ended by a fault.

    Calls `note_turn` every few seconds while no thread is stuck.

    Raises:
        LedgerOutdated, LedgerNewer: at the start. A person has to upgrade the ledger or Redrive.
    """
    ended = threading.Event()
    with _set_by_signals(ended):
        if not (_retry(runtime.ensure_ledger, ended, note_turn) and _retry(lambda: runtime.intake, ended, note_turn)):
            return True
        queues_exist = _try(runtime.ensure_queues, _FIRST_PAUSE)
        threads = [SourceThread(runtime, source, reader, ended) for source, reader in runtime.sources]
        for thread in threads:
            thread.start()
        log.info(STARTED_EVENT, sources=sorted({source.name for source, _ in runtime.sources}))
        if not queues_exist:
            _retry(runtime.ensure_queues, ended, note_turn)
        while not ended.wait(LIVENESS_INTERVAL):
            if not any(thread.is_stuck for thread in threads):
                note_turn()
        log.info("intake_stopping", hint="it ends when the current batches are written")
        if not _wait_until_idle(threads):
            log.warning("batch_abandoned", hint="it is delivered again")
    return not any(thread.crashed for thread in threads)


class SourceThread:
    """Drains one source until `ended`, also through outages.

    The thread is a daemon: nobody waits for the end of a long poll. What SQS delivers at that moment is delivered again.
    """

    def __init__(self, runtime: Runtime, source: Source, reader: Reader, ended: threading.Event) -> None:
        #: Set while the thread has no batch.
        self.idle = threading.Event()
        #: Whether the thread ended by a fault.
        self.crashed = False
        self._intake: Intake = runtime.intake
        self._seconds = runtime.settings.worker.slice
        self._source = _WatchedSource(source, self.idle)
        self._reader = reader
        self._ended = ended

    @property
    def is_stuck(self) -> bool:
        """Whether the thread hangs."""
        return time.monotonic() - self._source.polled_at >= _STUCK_AFTER

    def start(self) -> None:
        """Start the thread."""
        threading.Thread(target=self._run, name=f"intake-{self._source.name}", daemon=True).start()

    def _run(self) -> None:
        try:
            self._drain_until_ended()
        except Exception:  # a source that stopped silently would be worse than an end of the process
            log.exception("intake_crashed", source=self._source.name, hint="this is a fault in Redrive")
            self.crashed = True
            self._ended.set()
        finally:
            self.idle.set()

    def _drain_until_ended(self) -> None:
        failed = False
        pauses = _pauses()
        while not self._ended.is_set():
            try:
                recorded = self._drain(seconds=0, wait=LONG_POLL)
                if recorded.accepted or recorded.known:
                    recorded += self._drain(seconds=self._seconds, wait=SHORT_POLL)
            except OutOfReach as error:
                failed = True
                pause = next(pauses)
                _log_failure("source_unavailable", error, pause, source=self._source.name)
                self._ended.wait(pause)
                continue
            if failed:
                log.info("source_recovered", source=self._source.name)
                failed, pauses = False, _pauses()
            if recorded.accepted or recorded.known:
                counts = {"accepted": recorded.accepted, "known": recorded.known, "rejected": recorded.rejected}
                log.info("records_taken", source=self._source.name, **counts)

    def _drain(self, *, seconds: float, wait: float) -> Recorded:
        with as_out_of_reach():
            return self._intake.drain(self._source, self._reader, seconds=seconds, wait=wait, stop=self._ended.is_set)


class _WatchedSource:
    """A source that sets `idle` while it waits for records, and knows when its last poll began."""

    def __init__(self, source: Source, idle: threading.Event) -> None:
        self._source = source
        self._idle = idle
        self.polled_at = time.monotonic()

    @property
    def name(self) -> str:
        return self._source.name

    def receive(self, *, wait: float) -> Sequence[Record]:
        self._idle.set()
        self.polled_at = time.monotonic()
        records = self._source.receive(wait=wait)
        if records:
            self._idle.clear()
        return records

    def acknowledge(self, records: Sequence[Record]) -> None:
        self._source.acknowledge(records)

    def give_back(self, records: Sequence[Record]) -> None:
        self._source.give_back(records)

    def close(self) -> None:
        self._source.close()


def _wait_until_idle(threads: Iterable[SourceThread]) -> bool:
    """Wait for the current batches, for the grace at most; return whether all are written."""
    until = time.monotonic() + _GRACE
    return all(thread.idle.wait(max(until - time.monotonic(), 0)) for thread in threads)


def _retry(act: Callable[[], object], ended: threading.Event, note_turn: Callable[[], None]) -> bool:
    """Run `act` until it succeeds; return False if the process is to end before."""
    for pause in _pauses():
        note_turn()
        if ended.is_set():
            break
        if _try(act, pause):
            return True
        ended.wait(pause)
    return False


def _try(act: Callable[[], object], pause: float) -> bool:
    """Run `act`; log and return False if something that it needs does not answer."""
    try:
        with as_out_of_reach():
            act()
    except (LedgerOutdated, LedgerNewer):
        raise
    except OutOfReach as error:
        _log_failure("start_delayed", error, pause)
        return False
    return True


def _log_failure(event: str, error: OutOfReach, pause: float, **facts: str) -> None:
    log.warning(event, **facts, error=error.message, hint=error.hint, again_in=f"{pause:g}s")


def _pauses() -> Iterator[float]:
    pause = _FIRST_PAUSE
    while True:
        yield pause
        pause = min(pause * 2, _LONGEST_PAUSE)


@contextmanager
def _set_by_signals(ended: threading.Event) -> Iterator[None]:
    """Let SIGINT and SIGTERM set `ended`. A second signal ends the process at once."""

    def end(number: int, _frame: object) -> None:
        ended.set()
        signal.signal(number, before[signal.Signals(number)])

    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
