"""Intake: records become dead letters in the ledger. After the commit the source is acknowledged, and wake-ups are sent."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import structlog

from tasks.dlq.errors import OutOfReach
from tasks.dlq.ledger.dead_letters import Recorded, record_dead_letters
from tasks.dlq.services.wakeups import wake_jobs
from tasks.dlq.shortage import as_out_of_reach

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tasks.dlq.calls.route import Route
    from tasks.dlq.ledger import Ledger
    from tasks.dlq.ports import Record, Source, WakeupSender
    from tasks.dlq.reading.reader import Reader

log = structlog.get_logger("redrive.intake")


class Intake:
    """Writes dead letters into the ledger, and wakes workers for the jobs that they open."""

    def __init__(self, ledger: Ledger, routes: Mapping[str, Route], sender: WakeupSender) -> None:
        self._ledger = ledger
        self._routes = routes
        self._sender = sender
        self._delays = {name: route.delay for name, route in routes.items()}
        self._untaken: dict[str, tuple[Reader, Sequence[Record]]] = {}  # by source: what the ledger could not take

    def drain(
        self,
        source: Source,
        reader: Reader,
        *,
        seconds: float,
        wait: float = 0.0,
        stop: Callable[[], bool] = lambda: False,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> Recorded:
        """Take batches from `source` until it is empty, `seconds` are over or `stop` returns True.

        A batch that the ledger could not take is given back to the source, and a copy of it is kept. The next drain begins with
        that copy, and receives nothing until the ledger has taken it: each delivery brings a message nearer to the dead-letter
        queue.

        Raises:
            OutOfReach: the source or the ledger does not answer. What was not acknowledged is delivered again.
        """
        total = self._take_untaken(source.name)
        until = monotonic() + seconds
        while not stop():
            records = source.receive(wait=wait)
            if not records:
                break
            try:
                total += self.take(source.name, reader, records)
            except OutOfReach as error:
                self._untaken[source.name] = reader, records
                _give_back(source, records, error)
                raise
            source.acknowledge(records)
            if monotonic() >= until:
                break
        return total

    def take(self, source: str, reader: Reader, records: Sequence[Record]) -> Recorded:
        """Write one batch in one transaction, then send wake-ups. On return it is committed: the caller may acknowledge it.

        Raises:
            OutOfReach: the ledger does not answer, or this process lacks a resource. Nothing is written.
        """
        with as_out_of_reach():
            letters = [reader.read(source, one) for one in records]
            recorded = self._ledger.transact(lambda tx: record_dead_letters(tx, letters, delays=self._delays))
        if recorded.opened:
            wake_jobs(self._ledger, self._sender, self._routes, recorded.opened)
        return recorded

    def _take_untaken(self, source: str) -> Recorded:
        """Take the batch that the ledger could not take before, if any. The source delivers it again: then it is known."""
        reader, records = self._untaken.get(source, (None, ()))
        if reader is None:
            return Recorded()
        recorded = self.take(source, reader, records)
        self._untaken.pop(source, None)  # two queues may share a source, and each have a thread
        return recorded


def _give_back(source: Source, records: Sequence[Record], cause: OutOfReach) -> None:
    """Give a batch back to its source. If that fails, the source delivers it again by itself, later."""
    log.warning("batch_given_back", source=source.name, count=len(records), error=cause.message)
    try:
        source.give_back(records)
    except OutOfReach as error:
        log.warning("batch_not_given_back", source=source.name, error=error.message)
