"""Continuous intake: a thread for each source, so that none waits for another's long poll or another's outage."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import structlog

from tasks.dlq.errors import LedgerUnavailable, OutOfReach

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from tasks.dlq.intake import Intake
    from tasks.dlq.ports import Record, Source
    from tasks.dlq.reading import Reader

log = structlog.get_logger("redrive.intake")

#: Seconds of a long poll: what SQS allows at most.
LONG_POLL = 20.0
#: Seconds until a source that was out of reach is tried again: doubled each time, up to the cap.
FIRST_PAUSE = 1.0
LONGEST_PAUSE = 30.0


class Follower:
    """Drains one source until `ended`, whatever goes away meanwhile.

    The thread is a daemon: nobody waits for a long poll to end. What SQS hands out at that moment comes again.
    """

    def __init__(
        self,
        intake: Intake,
        source: Source,
        reader: Reader,
        *,
        ledger_answers: Callable[[], object],
        seconds: float,
        ended: threading.Event,
    ) -> None:
        self.idle = threading.Event()
        self.crashed = False
        self._intake = intake
        self._source = _Watched(source, self.idle)
        self._reader = reader
        self._ledger_answers = ledger_answers
        self._seconds = seconds
        self._ended = ended
        self._thread = threading.Thread(target=self._run, name=f"intake-{source.name}", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def _run(self) -> None:
        try:
            self._follow()
        except Exception:  # whatever it was: one source must not stop in silence
            log.exception("intake ends: this is a fault in Redrive", source=self._source.name)
            self.crashed = True
            self._ended.set()
        finally:
            self.idle.set()

    def _follow(self) -> None:
        pause, trouble = FIRST_PAUSE, None
        while not self._ended.is_set():
            try:
                if isinstance(trouble, LedgerUnavailable):
                    self._ledger_answers()  # before SQS hands out what could not be kept, and counts that as a delivery
                taken = self._intake.drain(
                    self._source, self._reader, seconds=self._seconds, wait=LONG_POLL, stop=self._ended.is_set
                )
            except OutOfReach as error:
                trouble = error
                log.warning(
                    "the source waits", source=self._source.name, error=error.message, hint=error.hint, again_in=f"{pause:g}s"
                )
                self._ended.wait(pause)
                pause = min(pause * 2, LONGEST_PAUSE)
                continue
            if trouble:
                log.info("the source goes on", source=self._source.name)
                pause, trouble = FIRST_PAUSE, None
            if taken.accepted or taken.known:
                counts = {"accepted": taken.accepted, "known": taken.known, "rejected": taken.rejected}
                log.info("took", source=self._source.name, **counts)


class _Watched:
    """A source that tells whether it is only being waited for."""

    def __init__(self, source: Source, idle: threading.Event) -> None:
        self._source = source
        self._idle = idle

    @property
    def name(self) -> str:
        return self._source.name

    def receive(self, *, wait: float) -> Sequence[Record]:
        self._idle.set()
        records = self._source.receive(wait=wait)
        if records:
            self._idle.clear()
        return records

    def acknowledge(self, records: Sequence[Record]) -> None:
        self._source.acknowledge(records)


def finish(followers: Iterable[Follower], *, grace: float) -> bool:
    """Let the batches in hand end, for at most `grace` seconds; tell whether they did."""
    until = time.monotonic() + grace
    return all(each.idle.wait(max(until - time.monotonic(), 0)) for each in followers)
