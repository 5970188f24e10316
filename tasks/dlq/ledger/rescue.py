"""The rescue: jobs whose worker died, hung or was paused longer than its lease.

A lease is longer than any call that it allows, so when it ends the client's side of the call is over; the API's side gets the
route's drain on top before the key is called again. That a lease has ended is only known as far as the ledger's clock can be
trusted: after a step forward, key and slot rest for what a lease given just before it may still last.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import case, select, update

from tasks.dlq.calls.outcome import Outcome
from tasks.dlq.failures import group_key
from tasks.dlq.job import State
from tasks.dlq.ledger.routes import lock_route
from tasks.dlq.ledger.schema import attempts, executing, jobs

if TYPE_CHECKING:
    from tasks.dlq.calls.route import Route
    from tasks.dlq.ledger.engine import Transaction

#: Leases in a row that nobody settled, until the job is parked: a job that kills its worker must not kill workers for ever.
MAX_CRASHES = 5
_DETAIL = "the worker did not come back from this call"


def rescue(tx: Transaction, route: Route, *, limit: int = 100) -> list[int]:
    """Take the leases that have run out, oldest first. Return the jobs' ids; they are due again after the route's drain.

    After more than that, where this process has not seen the ledger's clock go on steadily for a whole lease.
    """
    lock_route(tx, route.name)
    now = tx.now()
    rest_until = now + round((_doubt(tx, route) + route.drain) * 1000)
    expired = (
        select(jobs.c.id, jobs.c.token, jobs.c.lease_until)
        .where(jobs.c.route == route.name, executing, jobs.c.lease_until <= now)
        .order_by(jobs.c.lease_until)
        .limit(limit)
        .with_for_update(skip_locked=True)  # its needs come just now, or it is settled late: the next sweep sees what is left
    )
    rows = tx.connection.execute(expired).all()
    for row in rows:
        _take_back(tx, route, row.id, now=now, rest_until=rest_until)
        lost = update(attempts).where(attempts.c.token == row.token, attempts.c.outcome.is_(None))
        tx.connection.execute(lost.values(ended_at=now, outcome=Outcome.LOST, detail=_DETAIL))
    return [row.id for row in rows]


def _doubt(tx: Transaction, route: Route) -> float:
    """Return the seconds that a lease which is over by the ledger's clock may still last.

    Who has watched the clock for a whole lease without a step knows that it is over: it was given either in that time, and then
    lasted as long as it says, or before, and then at least as long.
    """
    return max(route.lease - tx.steady_for(), 0.0)


def _take_back(tx: Transaction, route: Route, job_id: int, *, now: int, rest_until: int) -> None:
    hopeless = jobs.c.crashes + 1 >= MAX_CRASHES
    news = jobs.c.last_seq > jobs.c.claimed_seq
    statement = (
        update(jobs)
        .where(jobs.c.id == job_id)
        .values(
            state=case((hopeless & news, State.SCHEDULED), (hopeless, State.PARKED), else_=State.RETRYABLE),
            due_at=case((hopeless & news, rest_until + round(route.delay * 1000)), else_=rest_until),
            crashes=case((hopeless & news, 0), else_=jobs.c.crashes + 1),
            attempts=case((hopeless & news, 0), else_=jobs.c.attempts),
            misses=case((hopeless & news, 0), else_=jobs.c.misses),
            rest_until=rest_until,
            token=None,
            lease_until=None,
            outcome=Outcome.LOST,
            status=None,
            detail=_DETAIL,
            group_key=group_key(route.name, Outcome.LOST, None, _DETAIL),
            changed_at=now,
        )
    )
    tx.connection.execute(statement)
