"""Sends the wake-ups that the ledger has reserved, after its commit."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import structlog

from tasks.dlq.errors import BrokerUnavailable
from tasks.dlq.ledger.wakeups import release_wakeups

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tasks.dlq.job import Wakeup
    from tasks.dlq.ledger import Ledger
    from tasks.dlq.ports import WakeupSender

log = structlog.get_logger("redrive.wakeups")


def send_wakeups(ledger: Ledger, sender: WakeupSender, wakeups: Sequence[Wakeup]) -> int:
    """Send wake-ups; return how many were sent.

    If the broker does not answer, the rest is released: the next `promote` sends others at once. No job is lost.
    """
    for sent, wakeup in enumerate(wakeups):
        try:
            sender.send(wakeup.job_id, delay=wakeup.delay)
        except BrokerUnavailable as error:
            unsent = [wakeup.job_id for wakeup in wakeups[sent:]]
            log.warning("wakeups_unsent", count=len(unsent), error=error.message)
            ledger.transact(partial(release_wakeups, job_ids=unsent))
            return sent
    return len(wakeups)
