"""Breaks Redrive on purpose: the torture must notice. Nothing in Redrive knows of this file."""

from __future__ import annotations

from typing import Any

from sqlalchemy import update

from tasks.adapters.sqs import SqsSource
from tasks.dlq import recovery
from tasks.dlq.job import State
from tasks.dlq.ledger import claims, settling
from tasks.dlq.schema import jobs


def _lease_off() -> None:
    """Claim whatever is being called already, as if there were no lease."""

    claim = recovery.claim

    def greedy(tx: Any, route: Any, *, worker: str) -> Any:
        mine = update(jobs).where(jobs.c.route == route.name, jobs.c.state == State.EXECUTING)
        tx.connection.execute(mine.values(state=State.RETRYABLE, token=None, lease_until=None))
        return claim(tx, route, worker=worker)

    recovery.claim = greedy


def _limit_off() -> None:
    """Count no call in flight."""
    claims.occupied = lambda *_: 0


def _early_acknowledgement() -> None:
    """Acknowledge what a source hands out before the ledger has it."""
    receive = SqsSource.receive

    def forgetful(self: Any, *, wait: float) -> Any:
        records = receive(self, wait=wait)
        self.acknowledge(records)
        return records

    SqsSource.receive = forgetful  # type: ignore[method-assign]


def _coverage_by_what_is_there() -> None:
    """Take a success for all that has been asked for by its end, not by its beginning."""
    settling._completed = lambda _route, _now: {
        **settling._FRESH_BUDGET,
        "covered_seq": jobs.c.last_seq,
        "state": State.COMPLETED,
    }


SABOTAGES = {
    "lease_off": _lease_off,
    "limit_off": _limit_off,
    "early_acknowledgement": _early_acknowledgement,
    "coverage_by_what_is_there": _coverage_by_what_is_there,
}
