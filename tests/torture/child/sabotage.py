"""Breaks Redrive on purpose: the torture must notice. Nothing in Redrive knows of this file."""

from __future__ import annotations

import random
import time
from typing import Any

from sqlalchemy import case, select, update

from tasks.adapters.sqs import SqsSource
from tasks.dlq.job import State
from tasks.dlq.ledger import dead_letters, settlement
from tasks.dlq.ledger.routes import LockedRoute
from tasks.dlq.ledger.schema import FRESH_BUDGET, jobs, needs
from tasks.dlq.services import recovery


def _lease_off() -> None:
    """Claim whatever is being called already, as if there were no lease."""

    claim = recovery.claim

    def greedy(locked: Any, *, worker: str) -> Any:
        mine = update(jobs).where(jobs.c.route == locked.route.name, jobs.c.state == State.EXECUTING)
        locked.tx.connection.execute(mine.values(state=State.RETRYABLE, token=None, lease_until=None))
        return claim(locked, worker=worker)

    recovery.claim = greedy


def _limit_off() -> None:
    """Count no call in flight."""
    LockedRoute.count_occupied = lambda _: 0  # type: ignore[method-assign]


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
    settlement._completed_values = lambda _locked: {
        **FRESH_BUDGET,
        "covered_seq": jobs.c.last_seq,
        "state": State.COMPLETED,
    }


def _coverage_by_id() -> None:
    """Number a job's needs by their letters' ids, as if those committed in their order. On SQLite they do.

    An intake that takes its time between the two is what makes the difference seen, and harms nobody else.
    """

    def attach(tx: Any, fresh: Any, delays: Any, now: int) -> list[tuple[str, int]]:
        time.sleep(random.choice((0.0, 0.0, 3.0)))
        opened = attach_needs(tx, fresh, delays, now)
        for letter_id, letter in fresh:
            own = select(jobs.c.id).where(jobs.c.route == letter.route, jobs.c.key.in_(letter.keys)).scalar_subquery()
            mine = needs.c.dead_letter_id == letter_id, needs.c.job_id.in_(own)
            tx.connection.execute(update(needs).where(*mine).values(seq=letter_id))
            last = case((jobs.c.last_seq < letter_id, letter_id), else_=jobs.c.last_seq)
            tx.connection.execute(update(jobs).where(jobs.c.id.in_(own)).values(last_seq=last))
        return opened

    attach_needs = dead_letters.attach_needs
    dead_letters.attach_needs = attach


SABOTAGES = {
    "coverage_by_id": _coverage_by_id,
    "lease_off": _lease_off,
    "limit_off": _limit_off,
    "early_acknowledgement": _early_acknowledgement,
    "coverage_by_what_is_there": _coverage_by_what_is_there,
}
