"""Maintenance: the sweeps that bring every job on, whatever was killed, lost or doubled.

Each sweep is bounded, safe to run twice at once, and returns what it did.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from tasks.dlq.errors import BrokerUnavailable, LedgerUnavailable
from tasks.dlq.ledger import processes, pruning, wakeups
from tasks.dlq.ledger import rescue as leases
from tasks.dlq.services.wakeups import ring_all

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tasks.dlq.calls.route import Route
    from tasks.dlq.job import Wakeup
    from tasks.dlq.ledger import Ledger, Transaction
    from tasks.dlq.ports import Doorbell


log = structlog.get_logger("redrive.maintenance")


@dataclass(frozen=True, kw_only=True)
class Pruned:
    """What a prune removed."""

    letters: int = 0
    jobs: int = 0


class Maintenance:
    """The sweeps over one ledger. `in_queue` counts the wake-ups in the queue, of all routes, or raises BrokerUnavailable."""

    def __init__(
        self, ledger: Ledger, routes: Mapping[str, Route], doorbell: Doorbell, *, in_queue: Callable[[], int] | None = None
    ) -> None:
        self._ledger = ledger
        self._routes = routes
        self._doorbell = doorbell
        self._in_queue = in_queue
        self._unsaid = False

    def promote(self) -> int:
        """Ring for due jobs that nobody comes for; return how many wake-ups went out."""
        if self._unsaid:
            self._forget_patience()
        return sum(ring_all(self._ledger, self._doorbell, self._ringing(route)) for route in self._routes.values())

    def rescue(self) -> int:
        """Take back the leases that have run out; return how many."""
        return len([job for route in self._routes.values() for job in self._rescued(route)])

    def prune(self, *, keep: float, batch: int = 500, batches: int = 20) -> Pruned:
        """Remove what has been over for `keep` seconds, in short transactions, up to `batches` of each kind."""
        letters = gone = 0
        for _ in range(batches):
            removed = self._ledger.transact(lambda tx: pruning.prune_letters(tx, before=_before(tx, keep), limit=batch))
            letters += removed
            if removed < batch:
                break
        for _ in range(batches):
            removed = self._ledger.transact(lambda tx: pruning.prune_jobs(tx, before=_before(tx, keep), limit=batch))
            gone += removed
            if removed < batch:
                break
        self._ledger.transact(processes.remove_old_processes)
        return Pruned(letters=letters, jobs=gone)

    def wake_up(self) -> None:
        """Let the next promote ring at once: a worker has just started. A ledger that is away is told by that promote."""
        self._unsaid = True
        try:
            self._forget_patience()
        except LedgerUnavailable as error:
            log.warning("the ledger is told later that a worker has started", error=error.message)

    def _forget_patience(self) -> None:
        self._ledger.transact(wakeups.forget_patience)
        self._unsaid = False

    def _ringing(self, route: Route) -> list[Wakeup]:
        self._give_up_lost(route)
        return self._ledger.transact(lambda tx: wakeups.promote(tx, route))

    def _give_up_lost(self, route: Route) -> None:
        """Where bells that nobody answers leave no place for others, see whether the queue holds them at all."""
        if self._in_queue is None:
            return
        with self._ledger.begin(read_only=True) as tx:
            unheard = wakeups.unheard(tx, route)
        if not unheard:
            return
        try:
            lost = unheard - self._in_queue()
        except BrokerUnavailable as error:
            log.warning("the queue's wake-ups cannot be counted", error=error.message)
            return
        if lost > 0:
            lost = self._ledger.transact(lambda tx: wakeups.give_up(tx, route, lost))
            log.warning("wake-ups were lost; others are rung", route=route.name, lost=lost)

    def _rescued(self, route: Route) -> list[int]:
        return self._ledger.transact(lambda tx: leases.rescue(tx, route))


def _before(tx: Transaction, keep: float) -> int:
    return tx.now() - round(keep * 1000)
