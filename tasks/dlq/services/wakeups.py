"""Waking workers: the bells that the ledger has reserved are rung after its commit."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import structlog

from tasks.dlq.errors import BrokerUnavailable
from tasks.dlq.ledger import wakeups as bells

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tasks.dlq.job import Wakeup
    from tasks.dlq.ledger import Ledger
    from tasks.dlq.ports import Doorbell

log = structlog.get_logger("redrive.waking")


def ring_all(ledger: Ledger, doorbell: Doorbell, wakeups: Sequence[Wakeup]) -> int:
    """Ring; return how many went out.

    A broker that is gone costs a sweep, never a job: it is said once, and what was not rung leaves the window again, so that the
    next `promote` does not wait for it.
    """
    for sent, wakeup in enumerate(wakeups):
        try:
            doorbell.ring(wakeup.job_id, delay=wakeup.delay)
        except BrokerUnavailable as error:
            unsent = [each.job_id for each in wakeups[sent:]]
            log.warning("wake-ups wait for a sweep", unsent=len(unsent), error=error.message)
            ledger.transact(partial(bells.take_back, job_ids=unsent))
            return sent
    return len(wakeups)
