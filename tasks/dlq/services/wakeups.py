"""Sends the wake-ups that the ledger has reserved, after its commit."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import structlog

from tasks.dlq.errors import BrokerUnavailable
from tasks.dlq.ledger.routes import lock_route
from tasks.dlq.ledger.wakeups import release_wakeups, reserve_wakeups

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tasks.dlq.calls.route import Route
    from tasks.dlq.job import Wakeup
    from tasks.dlq.ledger import Ledger, Transaction
    from tasks.dlq.ports import WakeupSender

log = structlog.get_logger("redrive.wakeups")


class SendResult(NamedTuple):
    """What became of wake-ups."""

    #: How many were sent.
    sent: int
    #: Why the others were not sent; None if all were. The next sweep sends them.
    error: BrokerUnavailable | None


class WakeResult(NamedTuple):
    """Why jobs that were opened are not called soon."""

    #: Their routes that are paused.
    paused: Sequence[str] = ()
    #: Why wake-ups were not sent; None if all were. The next sweep sends them.
    error: BrokerUnavailable | None = None


NO_WAKEUPS = WakeResult()


def wake_jobs(ledger: Ledger, sender: WakeupSender, routes: Mapping[str, Route], opened: Sequence[tuple[str, int]]) -> WakeResult:
    """Send wake-ups for opened jobs, given as (route, job id), within each route's window. Jobs beyond it wait for a sweep."""
    by_route: dict[str, list[int]] = {}
    for name, job_id in opened:
        by_route.setdefault(name, []).append(job_id)
    paused: list[str] = []
    wakeups: list[Wakeup] = []
    for name, job_ids in sorted(by_route.items()):
        reserved, is_paused = ledger.transact(partial(_reserve, route=routes[name], job_ids=job_ids))
        wakeups += reserved
        if is_paused:
            paused.append(name)
    return WakeResult(paused, send_wakeups(ledger, sender, wakeups).error)


def _reserve(tx: Transaction, *, route: Route, job_ids: Sequence[int]) -> tuple[list[Wakeup], bool]:
    locked = lock_route(tx, route)
    return reserve_wakeups(locked, job_ids), locked.is_paused


def send_wakeups(ledger: Ledger, sender: WakeupSender, wakeups: Sequence[Wakeup]) -> SendResult:
    """Send wake-ups.

    If the broker does not answer, the rest is released: the next `promote` sends others at once. No job is lost.
    """
    for sent, wakeup in enumerate(wakeups):
        try:
            sender.send(wakeup.job_id, delay=wakeup.delay)
        except BrokerUnavailable as error:
            unsent = [wakeup.job_id for wakeup in wakeups[sent:]]
            log.warning("wakeups_unsent", count=len(unsent), error=error.message)
            ledger.transact(partial(release_wakeups, job_ids=unsent))
            return SendResult(sent, error)
    return SendResult(len(wakeups), None)
