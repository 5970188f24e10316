"""Continuous intake: a thread for each source, so that none waits for another's long poll or another's outage."""

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
STARTED_EVENT = "drains"
#: Seconds of a long poll: what SQS allows at most.
LONG_POLL = 20.0
#: Seconds for more to come, before it is told what came. A poll of none asks some of SQS' servers only, and may miss a message.
SHORT_POLL = 1.0
#: Seconds until what is out of reach is tried again: doubled each time, up to the cap.
_FIRST_PAUSE = 1.0
_LONGEST_PAUSE = 30.0
#: Seconds that the batches in hand may take at the end: a commit that waits for SQLite's lock, and a deletion.
_GRACE = 30.0
#: Seconds after which a thread stands still, if it has not begun a poll or a pause: a poll, SQS' retries and a slow commit.
_STUCK = 240.0


def follow_all(runtime: Runtime, turn: Callable[[], None] = lambda: None) -> bool:
    """Drain every source of `runtime` until SIGINT or SIGTERM; tell whether no thread ended by a fault.

    Calls `turn` every few seconds while every thread goes on.

    Raises:
        LedgerOutdated: at the start; an older ledger is a person's decision.
    """
    ended = threading.Event()
    with _ended_by_signal(ended):
        if not _persist(runtime.ensure_ledger, ended, turn) or not _persist(lambda: runtime.intake, ended, turn):
            return True
        queues_are_there = _works(runtime.ensure_queues)
        followers = [Follower(runtime, source, reader, ended) for source, reader in runtime.sources]
        for each in followers:
            each.start()
        log.info(STARTED_EVENT, sources=sorted({source.name for source, _ in runtime.sources}))
        if not queues_are_there:
            _persist(runtime.ensure_queues, ended, turn)
        while not ended.wait(LIVENESS_INTERVAL):
            if all(each.goes_on for each in followers):
                turn()
        log.info("ends, when the batches in hand are written")
        if not _finish(followers):
            log.warning("ends without a batch in hand: it comes again")
    return not any(each.crashed for each in followers)


class Follower:
    """Drains one source until `ended`, whatever goes away meanwhile.

    The thread is a daemon: nobody waits for a long poll to end. What SQS hands out at that moment comes again.
    """

    def __init__(self, runtime: Runtime, source: Source, reader: Reader, ended: threading.Event) -> None:
        self.idle = threading.Event()
        self.crashed = False
        self._intake: Intake = runtime.intake
        self._seconds = runtime.settings.worker.slice
        self._source = _Watched(source, self.idle)
        self._reader = reader
        self._ended = ended

    @property
    def goes_on(self) -> bool:
        """Whether the thread does not hang in something."""
        return time.monotonic() - self._source.asked < _STUCK

    def start(self) -> None:
        """Begin, in a thread of its own."""
        threading.Thread(target=self._run, name=f"intake-{self._source.name}", daemon=True).start()

    def _run(self) -> None:
        try:
            self._follow()
        except Exception:  # whatever it was: no source may stop in silence
            log.exception("intake ends: this is a fault in Redrive", source=self._source.name)
            self.crashed = True
            self._ended.set()
        finally:
            self.idle.set()

    def _follow(self) -> None:
        trouble: OutOfReach | None = None
        pauses = _pauses()
        while not self._ended.is_set():
            try:
                taken = self._drained(seconds=0, wait=LONG_POLL)
                if taken.accepted or taken.known:
                    taken += self._drained(seconds=self._seconds, wait=SHORT_POLL)
            except OutOfReach as error:
                trouble = error
                pause = next(pauses)
                _tell("the source waits", error, pause, source=self._source.name)
                self._ended.wait(pause)
                continue
            if trouble:
                log.info("the source goes on", source=self._source.name)
                trouble, pauses = None, _pauses()
            if taken.accepted or taken.known:
                counts = {"accepted": taken.accepted, "known": taken.known, "rejected": taken.rejected}
                log.info("took", source=self._source.name, **counts)

    def _drained(self, *, seconds: float, wait: float) -> Recorded:
        with as_out_of_reach():
            return self._intake.drain(self._source, self._reader, seconds=seconds, wait=wait, stop=self._ended.is_set)


class _Watched:
    """A source that tells whether it is only being waited for."""

    def __init__(self, source: Source, idle: threading.Event) -> None:
        self._source = source
        self._idle = idle
        self.asked = time.monotonic()

    @property
    def name(self) -> str:
        return self._source.name

    def receive(self, *, wait: float) -> Sequence[Record]:
        self._idle.set()
        self.asked = time.monotonic()
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


def _finish(followers: Iterable[Follower]) -> bool:
    """Let the batches in hand end, for at most the grace; tell whether they did."""
    until = time.monotonic() + _GRACE
    return all(each.idle.wait(max(until - time.monotonic(), 0)) for each in followers)


def _persist(act: Callable[[], object], ended: threading.Event, turn: Callable[[], None]) -> bool:
    """Do it as often as it takes until it works; False when the process is to end before."""
    for pause in _pauses():
        turn()
        if ended.is_set():
            break
        if _works(act, pause):
            return True
        ended.wait(pause)
    return False


def _works(act: Callable[[], object], pause: float = _FIRST_PAUSE) -> bool:
    try:
        with as_out_of_reach():
            act()
    except (LedgerOutdated, LedgerNewer):
        raise
    except OutOfReach as error:
        _tell("not everything is there yet", error, pause)
        return False
    return True


def _tell(event: str, error: OutOfReach, pause: float, **facts: str) -> None:
    log.warning(event, **facts, error=error.message, hint=error.hint, again_in=f"{pause:g}s")


def _pauses() -> Iterator[float]:
    pause = _FIRST_PAUSE
    while True:
        yield pause
        pause = min(pause * 2, _LONGEST_PAUSE)


@contextmanager
def _ended_by_signal(ended: threading.Event) -> Iterator[None]:
    """Have Ctrl-C and SIGTERM set `ended`; a second one ends the process at once."""

    def end(number: int, _frame: object) -> None:
        ended.set()
        signal.signal(number, before[signal.Signals(number)])

    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
