"""Intake: records become dead letters in the ledger; after the commit the source is acknowledged and the bells ring."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING

import structlog

from tasks.dlq.errors import OutOfReach
from tasks.dlq.ledger import wakeups
from tasks.dlq.ledger.dead_letters import Recorded, record
from tasks.dlq.services.wakeups import ring_all
from tasks.dlq.shortage import as_out_of_reach

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tasks.dlq.calls.route import Route
    from tasks.dlq.ledger import Ledger
    from tasks.dlq.ports import Doorbell, Record, Source
    from tasks.dlq.reading.reader import Reader

log = structlog.get_logger("redrive.intake")


class Intake:
    """Writes dead letters into the ledger, and wakes workers for the jobs that they open."""

    def __init__(self, ledger: Ledger, routes: Mapping[str, Route], doorbell: Doorbell) -> None:
        self._ledger = ledger
        self._routes = routes
        self._doorbell = doorbell
        self._delays = {name: route.delay for name, route in routes.items()}
        self._unkept: dict[str, tuple[Reader, Sequence[Record]]] = {}  # by source: what the ledger could not keep

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
        """Take batches from `source` until it is empty, `seconds` are over or `stop` says so.

        What the ledger could not keep is given back, and a copy of it tried first the next time: until the ledger takes that,
        nothing is received, for each delivery brings a message nearer to the dead-letter queue.

        Raises:
            OutOfReach: the source or the ledger does not answer. Nothing is lost: what was not acknowledged comes again.
        """
        total = self._take_unkept(source.name)
        until = monotonic() + seconds
        while not stop():
            records = source.receive(wait=wait)
            if not records:
                break
            try:
                total += self.take(source.name, reader, records)
            except OutOfReach as error:
                self._unkept[source.name] = reader, records
                _give_back(source, records, error)
                raise
            source.acknowledge(records)
            if monotonic() >= until:
                break
        return total

    def take(self, source: str, reader: Reader, records: Sequence[Record]) -> Recorded:
        """Write one batch in one transaction, then wake workers. On return it is committed: the caller may acknowledge it.

        Raises:
            OutOfReach: the ledger does not answer, or the process has run out of something. Nothing is written.
        """
        with as_out_of_reach():
            letters = [reader.read(source, each) for each in records]
            recorded = self._ledger.transact(lambda tx: record(tx, letters, delays=self._delays))
        if recorded.opened:
            self._wake(recorded.opened)
        return recorded

    def _take_unkept(self, source: str) -> Recorded:
        """Take what the ledger could not keep, if there is any. The source delivers it again: then it is known."""
        reader, records = self._unkept.get(source, (None, ()))
        if reader is None:
            return Recorded()
        recorded = self.take(source, reader, records)
        self._unkept.pop(source, None)  # two queues may share a source, and each have a thread
        return recorded

    def _wake(self, opened: Sequence[tuple[str, int]]) -> None:
        """Ring within each route's window. What finds no room, or no broker, waits for a sweep: it is in the ledger."""
        by_route: dict[str, list[int]] = {}
        for name, job_id in opened:
            by_route.setdefault(name, []).append(job_id)
        for name, job_ids in sorted(by_route.items()):
            reserve = partial(wakeups.reserve, route=self._routes[name], job_ids=job_ids)
            ring_all(self._ledger, self._doorbell, self._ledger.transact(reserve))


def _give_back(source: Source, records: Sequence[Record], trouble: OutOfReach) -> None:
    """Give a batch back, if the source lets us: else it comes again when its time there is over."""
    log.warning(
        "the ledger could not keep a batch; it is given back", source=source.name, count=len(records), error=trouble.message
    )
    try:
        source.give_back(records)
    except OutOfReach as error:
        log.warning("the batch was not given back; it comes again later", source=source.name, error=error.message)
