"""Beat's periodic sweeps as Celery tasks: each calls one service and returns what it did."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

import structlog
from celery import shared_task

from tasks.dlq.alerts.kinds import FailureBurst, alert_kinds
from tasks.dlq.alerts.state import update_alerts
from tasks.dlq.clock import boottime
from tasks.dlq.errors import OutOfReach
from tasks.dlq.shortage import as_out_of_reach
from tasks.names import DRAIN_SOURCES, PROMOTE, PRUNE, RESCUE, WATCH
from tasks.worker.stopping import stop

if TYPE_CHECKING:
    from tasks.worker.delivery import RedriveTask

log = structlog.get_logger("redrive.sweeps")

#: A sweep is skipped if this process began the same sweep less than this number of seconds ago.
_MIN_INTERVAL = 0.2
#: By sweep: when this process began it last.
_begun: dict[str, float] = {}


def has_just_run(sweep: str, now: float) -> bool:
    """Return whether this process began the sweep just now; if not, note that it begins now.

    While no worker runs, beat's messages pile up. A worker that starts then runs only a few of them. Celery's `expires` would
    compare the clocks of two machines.
    """
    if now - _begun.get(sweep, -_MIN_INTERVAL) < _MIN_INTERVAL:
        return True
    _begun[sweep] = now
    return False


@shared_task(name=PROMOTE, bind=True)
def promote(self: RedriveTask) -> int:
    """Send wake-ups for due jobs that have none; return how many."""
    return 0 if has_just_run("promote", boottime()) else self.runtime.maintenance.promote()


@shared_task(name=RESCUE, bind=True)
def rescue(self: RedriveTask) -> int:
    """Take back the leases that have expired; return how many."""
    return 0 if has_just_run("rescue", boottime()) else self.runtime.maintenance.rescue()


@shared_task(name=DRAIN_SOURCES, bind=True)
def sources(self: RedriveTask) -> int:
    """Drain each SQS source for at most a slice, and skip one that does not answer. Return the number of accepted letters."""
    if has_just_run("sources", boottime()):
        return 0
    accepted = 0
    for source, reader in self.runtime.swept_sources:
        try:
            seconds = self.runtime.settings.worker.slice
            with as_out_of_reach():
                accepted += self.runtime.intake.drain(source, reader, seconds=seconds, stop=stop.is_requested).accepted
        except OutOfReach as error:
            log.warning("source_skipped", source=source.name, error=error.message, hint=error.hint)
            with suppress(OutOfReach):  # SQS may have come back without its queues
                self.runtime.ensure_queues()
    return accepted


@shared_task(name=WATCH, bind=True)
def watch(self: RedriveTask) -> None:
    """Begin and end alerts, and deliver them in the background."""
    burst = self.runtime.settings.alerts.burst
    update_alerts(self.runtime.ledger, alert_kinds(FailureBurst(failures=burst.failures, within=burst.within)))
    self.runtime.notifier.wake()


@shared_task(name=PRUNE, bind=True)
def prune(self: RedriveTask) -> dict[str, int]:
    """Remove dead letters and jobs that were settled long ago. Their counts stay in the tallies."""
    pruned = self.runtime.maintenance.prune(keep=self.runtime.settings.prune.keep)
    return {"letters": pruned.letters, "jobs": pruned.jobs}
