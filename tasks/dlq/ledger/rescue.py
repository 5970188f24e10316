"""The rescue: takes back leases that have expired, because their worker died, hung or was paused for too long.

A lease is longer than any call that it allows. When it expires, the client's side of the call is over; the API's side gets the
route's drain before the key is called again. The lease's end is known only as far as the ledger's clock can be trusted: after
a step forward, key and slot also rest for as long as a lease that was given just before the step may last.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import select, update

from tasks.dlq.calls.outcome import Outcome
from tasks.dlq.calls.retry import Verdict, decide_after_crash
from tasks.dlq.failures import group_key
from tasks.dlq.job import State
from tasks.dlq.ledger.schema import FRESH_BUDGET, attempts, executing, has_new_needs, jobs

if TYPE_CHECKING:
    from sqlalchemy import Row

    from tasks.dlq.ledger.routes import LockedRoute

_DETAIL = "the worker did not come back from this call"


def rescue(locked: LockedRoute, *, limit: int = 100) -> list[int]:
    """Take back expired leases, oldest first. Return the jobs' ids; they are due again after the route's drain.

    If this process has not watched the ledger's clock run steadily for a whole lease, they are due later.
    """
    rest_until = locked.now + round((_lease_remainder(locked) + locked.route.drain) * 1000)
    expired = (
        select(jobs.c.id, jobs.c.token, jobs.c.crashes, has_new_needs.label("has_new_needs"))
        .where(jobs.c.route == locked.route.name, executing, jobs.c.lease_until <= locked.now)
        .order_by(jobs.c.lease_until)
        .limit(limit)
        .with_for_update(skip_locked=True)  # a locked job gets needs or is settled late: the next sweep looks again
    )
    rows = locked.tx.connection.execute(expired).all()
    for row in rows:
        _take_back(locked, row, rest_until=rest_until)
        lost = update(attempts).where(attempts.c.token == row.token, attempts.c.outcome.is_(None))
        locked.tx.connection.execute(lost.values(ended_at=locked.now, outcome=Outcome.LOST, detail=_DETAIL))
    return [row.id for row in rows]


def _lease_remainder(locked: LockedRoute) -> float:
    """Return the seconds for which a lease may still last although the ledger's clock says that it has expired.

    A process that has watched the clock for a whole lease without a step needs none: a lease given in that time has lasted as
    long as it should, and one given before has lasted longer.
    """
    return max(locked.route.lease - locked.tx.steady_for(), 0.0)


def _take_back(locked: LockedRoute, row: Row[Any], *, rest_until: int) -> None:
    route = locked.route
    parked = decide_after_crash(row.crashes + 1) is Verdict.PARK
    values: dict[str, Any] = {"state": State.RETRYABLE, "due_at": rest_until, "crashes": row.crashes + 1}
    if parked and row.has_new_needs:
        due_at = rest_until + round(route.delay * 1000)
        values = FRESH_BUDGET | {"state": State.SCHEDULED, "due_at": due_at}
    elif parked:
        values["state"] = State.PARKED
    lost = {
        "token": None,
        "lease_until": None,
        "rest_until": rest_until,
        "outcome": Outcome.LOST,
        "status": None,
        "detail": _DETAIL,
        "group_key": group_key(route.name, Outcome.LOST, None, _DETAIL),
        "changed_at": locked.now,
    }
    locked.tx.connection.execute(update(jobs).where(jobs.c.id == row.id).values(values | lost))
