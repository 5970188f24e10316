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

#: Seconds within which a sweep that comes again has nothing new to find.
_JUST_NOW = 0.2
_begun: dict[str, float] = {}


def piled_up(sweep: str, now: float) -> bool:
    """Tell whether this process has begun the sweep just now.

    Of all that beat sent while no worker was there, a few do. No `expires` forgets the rest, for two machines' clocks may differ.
    """
    if now - _begun.get(sweep, -_JUST_NOW) < _JUST_NOW:
        return True
    _begun[sweep] = now
    return False


@shared_task(name=PROMOTE, bind=True)
def promote(self: RedriveTask) -> int:
    """Ring for due jobs that nobody comes for."""
    return 0 if piled_up("promote", boottime()) else self.runtime.maintenance.promote()


@shared_task(name=RESCUE, bind=True)
def rescue(self: RedriveTask) -> int:
    """Take back the leases of workers that did not come back."""
    return 0 if piled_up("rescue", boottime()) else self.runtime.maintenance.rescue()


@shared_task(name=DRAIN_SOURCES, bind=True)
def sources(self: RedriveTask) -> int:
    """Drain every source on SQS for at most a slice; one that does not answer keeps none of the others waiting."""
    accepted = 0
    for source, reader in () if piled_up("sources", boottime()) else self.runtime.queues:
        try:
            seconds = self.runtime.settings.worker.slice
            with as_out_of_reach():
                accepted += self.runtime.intake.drain(source, reader, seconds=seconds, stop=stop.asked).accepted
        except OutOfReach as error:
            log.warning("the source waits for the next sweep", source=source.name, error=error.message, hint=error.hint)
            with suppress(OutOfReach):  # SQS may have come back empty
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
    """Remove what has been over for long; its sums stay in the tallies."""
    pruned = self.runtime.maintenance.prune(keep=self.runtime.settings.prune.keep)
    return {"letters": pruned.letters, "jobs": pruned.jobs}
