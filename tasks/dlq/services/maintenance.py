"""Maintenance: the sweeps. They bring every job on after processes were killed or messages were lost or doubled.

Each sweep is bounded, may run twice at once, and returns what it did.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog

from tasks.dlq.errors import BrokerUnavailable, LedgerUnavailable
from tasks.dlq.ledger import processes, pruning
from tasks.dlq.ledger.rescue import rescue
from tasks.dlq.ledger.routes import lock_route
from tasks.dlq.ledger.wakeups import count_unanswered, drop_lost, promote_due_jobs, reset_timeouts
from tasks.dlq.services.wakeups import send_wakeups

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tasks.dlq.calls.route import Route
    from tasks.dlq.ledger import Ledger, Transaction
    from tasks.dlq.ports import WakeupSender


log = structlog.get_logger("redrive.maintenance")


@dataclass(frozen=True, kw_only=True)
class Pruned:
    """How many rows a prune removed."""

    letters: int = 0
    jobs: int = 0


class Maintenance:
    """The sweeps over one ledger.

    Args:
        ledger: the ledger.
        routes: the configured routes by name.
        sender: sends wake-ups.
        count_queued: counts the wake-ups in the queue, of all routes, or raises BrokerUnavailable; None if it cannot be counted.
    """

    def __init__(
        self, ledger: Ledger, routes: Mapping[str, Route], sender: WakeupSender, *, count_queued: Callable[[], int] | None = None
    ) -> None:
        self._ledger = ledger
        self._routes = routes
        self._sender = sender
        self._count_queued = count_queued
        self._must_reset = False

    def promote(self) -> int:
        """Send wake-ups for due jobs that no worker comes for; return how many were sent."""
        if self._must_reset:
            self._reset_timeouts()
        return sum(self._promote_route(route) for route in self._routes.values())

    def rescue(self) -> int:
        """Take back the leases that have expired; return how many."""
        return sum(self._rescue_route(route) for route in self._routes.values())

    def prune(self, *, keep: float, batch: int = 500, batches: int = 20) -> Pruned:
        """Remove dead letters and jobs that ended `keep` seconds ago, in short transactions: up to `batches` of each."""
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

    def note_worker_start(self) -> None:
        """Let the next promote send at once: a worker has just started. If the ledger does not answer, that promote tells it."""
        self._must_reset = True
        try:
            self._reset_timeouts()
        except LedgerUnavailable as error:
            log.warning("worker_start_unrecorded", error=error.message)

    def _reset_timeouts(self) -> None:
        self._ledger.transact(reset_timeouts)
        self._must_reset = False

    def _rescue_route(self, route: Route) -> int:
        return len(self._ledger.transact(lambda tx: rescue(lock_route(tx, route))))

    def _promote_route(self, route: Route) -> int:
        self._drop_lost(route)
        wakeups = self._ledger.transact(lambda tx: promote_due_jobs(lock_route(tx, route)))
        return send_wakeups(self._ledger, self._sender, wakeups).sent

    def _drop_lost(self, route: Route) -> None:
        """If unanswered wake-ups leave no place for others, ask the queue how many it holds. The others are lost."""
        if self._count_queued is None:
            return
        unanswered = self._ledger.transact(lambda tx: count_unanswered(lock_route(tx, route)))
        if not unanswered:
            return
        try:
            lost = unanswered - self._count_queued()
        except BrokerUnavailable as error:
            log.warning("wakeups_uncounted", error=error.message)
            return
        if lost > 0:
            lost = self._ledger.transact(lambda tx: drop_lost(lock_route(tx, route), lost))
            log.warning("wakeups_lost", route=route.name, count=lost)


def _before(tx: Transaction, keep: float) -> int:
    return tx.now() - round(keep * 1000)
