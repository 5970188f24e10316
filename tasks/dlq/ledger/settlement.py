"""The settle: what a call's end makes of its job, in one guarded UPDATE.

"Read that nothing new has come, then complete" loses the need that comes in between. So the counters decide inside the statement,
and the lease's token guards it: whoever lost the lease changes nothing but coverage, and that only by a success.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from sqlalchemy import case, select, update

from tasks.dlq.calls.breaker import FAULTS
from tasks.dlq.calls.outcome import Outcome
from tasks.dlq.calls.retry import Verdict
from tasks.dlq.job import Settled, State
from tasks.dlq.ledger.routes import breaker_of, hold_route, keep_breaker, lock_route, pause_route
from tasks.dlq.ledger.schema import attempts, executing, jobs, waiting

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Row

    from tasks.dlq.calls.breaker import Breaker
    from tasks.dlq.calls.retry import Decision
    from tasks.dlq.calls.route import Route
    from tasks.dlq.job import Claim, Ending
    from tasks.dlq.ledger.engine import Transaction


def settle(tx: Transaction, route: Route, claim: Claim, ending: Ending, decision: Decision, *, unknown: bool = False) -> Settled:
    """Write the end of a claim's call.

    Args:
        tx: an open transaction; a next claim may follow in it.
        route: the claim's route.
        claim: whose call ended.
        ending: how it ended.
        decision: what follows, by `retry.decide`.
        unknown: the API may still be working on the call: key and slot rest for the route's drain.
    """
    row = lock_route(tx, route.name)
    now = tx.now()
    if not _end_attempt(tx, claim, ending, now):
        return Settled(job_id=claim.job_id, state=None, due_at=0, late=True)  # pruned meanwhile: it was over long ago
    before = breaker_of(row)
    breaker = before.after(ending.outcome, key=claim.key, now=now, interval=route.probe_interval)
    if breaker.open and ending.outcome in FAULTS:
        decision = _blame_the_api(tx, route, claim, decision, before=before, now=now)
    if decision.verdict is Verdict.COMPLETE:
        values = _completed(route, now)
    elif decision.verdict is Verdict.PARK:
        values = _parked(route, decision, now)
    else:
        values = _retried(decision, ending, now, rest=route.drain if unknown else 0.0)
    if unknown:
        values["rest_until"] = now + round(route.drain * 1000)
    job = _release(tx, claim, values | _told(ending) | {"changed_at": now})
    if job is None:
        return _settle_late(tx, claim, ending)
    if breaker != before:
        keep_breaker(tx, route.name, breaker)
    if decision.route_delay is not None and not _asks_alone(tx, route, claim):
        hold_route(tx, route.name, now + round(decision.route_delay * 1000))
    if decision.pause:
        pause_route(tx, route.name, by="redrive", reason=ending.detail)
    return Settled(job_id=claim.job_id, state=State(job.state), due_at=job.due_at)


#: Needs came while the call was open: it does not cover them.
_NEWS = jobs.c.last_seq > jobs.c.claimed_seq
_FRESH_BUDGET = {"attempts": 0, "misses": 0, "crashes": 0}


def _completed(route: Route, now: int) -> dict[str, Any]:
    return _FRESH_BUDGET | {
        "covered_seq": _at_least(jobs.c.claimed_seq),
        "state": case((_NEWS, State.SCHEDULED), else_=State.COMPLETED),
        "due_at": case((_NEWS, now + round(route.delay * 1000)), else_=jobs.c.due_at),
    }


def _parked(route: Route, decision: Decision, now: int) -> dict[str, Any]:
    """Park; but a key that was asked for again during its last attempt gets a fresh budget instead."""
    return {
        "state": case((_NEWS, State.SCHEDULED), else_=State.PARKED),
        "due_at": case((_NEWS, now + round(route.delay * 1000)), else_=jobs.c.due_at),
        "attempts": case((_NEWS, 0), else_=jobs.c.attempts + int(decision.spend)),
        "misses": case((_NEWS, 0), else_=jobs.c.misses),
        "crashes": 0,
    }


def _retried(decision: Decision, ending: Ending, now: int, *, rest: float) -> dict[str, Any]:
    missed = jobs.c.misses + 1 if ending.outcome is Outcome.NOT_SENT else 0
    return {
        "state": State.RETRYABLE,
        "due_at": now + round(max(decision.delay, rest) * 1000),
        "attempts": jobs.c.attempts + 1 if decision.spend else jobs.c.attempts,
        "misses": jobs.c.misses if ending.short or ending.outcome in FAULTS else missed,
        "crashes": 0,
    }


def _blame_the_api(tx: Transaction, route: Route, claim: Claim, decision: Decision, *, before: Breaker, now: int) -> Decision:
    """While the breaker is open a failing call is the API's fault: it costs the job no attempt and parks nothing.

    Unless no other key is there: one that is left alone may be at fault itself.
    """
    if not before.open and _holds(tx, claim):
        _give_back(tx, route, before, now)
    others = select(jobs.c.id).where(jobs.c.route == route.name, jobs.c.id != claim.job_id).limit(1)
    if not any(tx.connection.scalar(others.where(there)) for there in (waiting, executing)):
        return decision
    return replace(decision, verdict=Verdict.RETRY, spend=False, delay=max(decision.delay, route.probe_interval))


def _give_back(tx: Transaction, route: Route, before: Breaker, now: int) -> None:
    """The failures before the one that opens the breaker were the API's fault as well: their key gets its attempts back.

    All of them were of one key, and the last one may have parked it. Given back is what then counts as a miss, up to the bound of
    those: else two poisoned keys could open the breaker for each other for ever.
    """
    first = update(jobs).where(jobs.c.route == route.name, jobs.c.key == before.first_key, jobs.c.misses < route.retry.max_misses)
    parked = first.where(jobs.c.state == State.PARKED, jobs.c.outcome.in_(FAULTS))
    tx.connection.execute(parked.values(state=State.RETRYABLE, due_at=now + round(route.probe_interval * 1000), changed_at=now))
    unspent = case((jobs.c.attempts > before.faults, jobs.c.attempts - before.faults), else_=0)
    tx.connection.execute(first.values(attempts=unspent, misses=jobs.c.misses + 1))


def _asks_alone(tx: Transaction, route: Route, claim: Claim) -> bool:
    """Tell whether this job was told to wait the last time, too, and others were served since: then it waits, not the route.

    Else one entity to which the API always says so would hold all the others each time.
    """
    told = select(attempts.c.ended_at).where(attempts.c.job_id == claim.job_id, attempts.c.number == claim.number - 1)
    since = tx.connection.scalar(told.where(attempts.c.outcome.in_([Outcome.THROTTLED, Outcome.API_FAULT])))
    if since is None:
        return False
    of_others = select(attempts.c.id).join(jobs).where(jobs.c.route == route.name, jobs.c.id != claim.job_id)
    served = of_others.where(attempts.c.began_at >= since, attempts.c.outcome == Outcome.SUCCESS)
    return tx.connection.execute(served.limit(1)).first() is not None


def _told(ending: Ending) -> dict[str, Any]:
    return {"outcome": ending.outcome, "status": ending.status, "detail": ending.detail, "group_key": ending.group_key}


def _holds(tx: Transaction, claim: Claim) -> bool:
    """Tell whether the lease is still the claim's."""
    found = tx.connection.execute(select(jobs.c.id).where(jobs.c.id == claim.job_id, jobs.c.token == claim.token))
    return found.one_or_none() is not None


def _release(tx: Transaction, claim: Claim, values: dict[str, Any]) -> Row[Any] | None:
    """Give the lease back and write `values`, if the lease is still ours."""
    mine = (jobs.c.id == claim.job_id, jobs.c.token == claim.token, jobs.c.state == State.EXECUTING)
    statement = update(jobs).where(*mine).values(token=None, lease_until=None, **values)
    return tx.connection.execute(statement.returning(jobs.c.state, jobs.c.due_at)).one_or_none()


def _settle_late(tx: Transaction, claim: Claim, ending: Ending) -> Settled:
    """The lease was taken. A success still covers what it began after; a failure says nothing about the call that followed."""
    if ending.outcome is Outcome.SUCCESS:
        mine = update(jobs).where(jobs.c.id == claim.job_id)
        tx.connection.execute(mine.values(covered_seq=_at_least(claim.mark)))
    return Settled(job_id=claim.job_id, state=None, due_at=0, late=True)


def _at_least(mark: Any) -> ColumnElement[int]:
    """Raise covered_seq to `mark`, never lower it (SQLite's max() is PostgreSQL's greatest(): CASE is both)."""
    return case((jobs.c.covered_seq < mark, mark), else_=jobs.c.covered_seq)


def _end_attempt(tx: Transaction, claim: Claim, ending: Ending, now: int) -> bool:
    """Write the attempt's end. One whose end was written already, and only the answer to that commit lost, keeps its time."""
    ended = attempts.c.outcome.is_not(None) & (attempts.c.outcome != Outcome.LOST)
    statement = (
        update(attempts)
        .where(attempts.c.token == claim.token)
        .values(
            ended_at=case((ended, attempts.c.ended_at), else_=now),
            outcome=ending.outcome,
            status=ending.status,
            detail=ending.detail,
        )
    )
    return tx.connection.execute(statement).rowcount == 1
