"""The settlement: writes what follows a call into its job, in one guarded UPDATE.

To read first whether needs came during the call, and to complete then, would lose a need that comes in between. So the UPDATE
itself compares the counters, and the lease's token guards it: a worker that has lost its lease changes nothing but coverage, and
that only after a success.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import case, select, update

from tasks.dlq.calls.breaker import FAULTS
from tasks.dlq.calls.outcome import Outcome
from tasks.dlq.calls.retry import Misses, Situation, Verdict, decide
from tasks.dlq.job import Settled, State
from tasks.dlq.ledger.schema import FRESH_BUDGET, attempts, executing, has_new_needs, jobs, waiting

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement

    from tasks.dlq.calls.breaker import Breaker
    from tasks.dlq.calls.outcome import CallEnd
    from tasks.dlq.calls.retry import Decision
    from tasks.dlq.job import Claim
    from tasks.dlq.ledger.routes import LockedRoute


def judge(locked: LockedRoute, claim: Claim, end: CallEnd, *, chance: float) -> Decision:
    """Read what surrounds the call, and return what follows it (`tasks.dlq.calls.retry.decide`)."""
    route, breaker = locked.route, locked.breaker
    situation = Situation(
        key=claim.key,
        attempts=claim.attempts,
        misses=claim.misses,
        now=locked.now,
        breaker=breaker,
        probe_interval=route.probe_interval,
        has_other_keys=end.outcome not in FAULTS or _has_other_keys(locked, claim, breaker),
        waits_alone=_asks_to_wait(end) and _waits_alone(locked, claim),
    )
    return decide(route.retry, end, situation, chance=chance)


def settle(locked: LockedRoute, claim: Claim, end: CallEnd, decision: Decision) -> Settled:
    """Write the end of a claim's call, and what follows it. A next claim may follow in the same transaction."""
    if not _end_attempt(locked, claim, end):
        return Settled(state=None)  # the job was pruned: its lease ended long ago
    state = _release(locked, claim, _job_values(locked, end, decision))
    if state is None:
        _settle_late(locked, claim, end)
        return Settled(state=None)
    if decision.refund:
        _refund_first_key(locked)
    if decision.breaker is not None:
        locked.save_breaker(decision.breaker)
    if decision.route_delay is not None:
        locked.hold_until(locked.now + round(decision.route_delay * 1000))
    paused = decision.pause and locked.pause(by="redrive", reason=end.detail)
    return Settled(state=state, paused=paused)


def _job_values(locked: LockedRoute, end: CallEnd, decision: Decision) -> dict[str, Any]:
    values: dict[str, Any] = {
        "outcome": end.outcome,
        "status": end.status,
        "detail": end.detail,
        "group_key": end.group_key,
        "changed_at": locked.now,
    }
    rest = locked.route.drain if end.unknown else 0.0
    if rest:
        values["rest_until"] = locked.now + round(rest * 1000)
    match decision.verdict:
        case Verdict.COMPLETE:
            return values | _completed_values(locked)
        case Verdict.PARK:
            return values | _parked_values(locked, decision)
        case Verdict.RETRY:
            return values | _retried_values(locked, decision, rest)


def _completed_values(locked: LockedRoute) -> dict[str, Any]:
    return FRESH_BUDGET | {
        "covered_seq": _raise_to(jobs.c.claimed_seq),
        "state": case((has_new_needs, State.SCHEDULED), else_=State.COMPLETED),
        "due_at": case((has_new_needs, _next_due(locked)), else_=jobs.c.due_at),
    }


def _parked_values(locked: LockedRoute, decision: Decision) -> dict[str, Any]:
    """Park the job; but if needs came during its last attempt, schedule it with a fresh budget."""
    return {
        "state": case((has_new_needs, State.SCHEDULED), else_=State.PARKED),
        "due_at": case((has_new_needs, _next_due(locked)), else_=jobs.c.due_at),
        "attempts": case((has_new_needs, 0), else_=jobs.c.attempts + int(decision.spend)),
        "misses": case((has_new_needs, 0), else_=jobs.c.misses),
        "crashes": 0,
    }


def _retried_values(locked: LockedRoute, decision: Decision, rest: float) -> dict[str, Any]:
    misses = {Misses.COUNT: jobs.c.misses + 1, Misses.KEEP: jobs.c.misses, Misses.RESET: 0}
    return {
        "state": State.RETRYABLE,
        "due_at": locked.now + round(max(decision.delay, rest) * 1000),
        "attempts": jobs.c.attempts + int(decision.spend),
        "misses": misses[decision.misses],
        "crashes": 0,
    }


def _next_due(locked: LockedRoute) -> int:
    return locked.now + round(locked.route.delay * 1000)


def _raise_to(seq: Any) -> ColumnElement[int]:
    """Return `covered_seq`, raised to `seq`. A CASE, because the databases have different names for the larger of two."""
    return case((jobs.c.covered_seq < seq, seq), else_=jobs.c.covered_seq)


def _end_attempt(locked: LockedRoute, claim: Claim, end: CallEnd) -> bool:
    """Write the attempt's end; return False if there is no such attempt.

    A commit whose answer was lost is repeated: the attempt has its end then, and keeps the time.
    """
    ended = attempts.c.outcome.is_not(None) & (attempts.c.outcome != Outcome.LOST)
    statement = (
        update(attempts)
        .where(attempts.c.token == claim.token)
        .values(
            ended_at=case((ended, attempts.c.ended_at), else_=locked.now),
            outcome=end.outcome,
            status=end.status,
            detail=end.detail,
        )
    )
    return locked.tx.connection.execute(statement).rowcount == 1


def _release(locked: LockedRoute, claim: Claim, values: dict[str, Any]) -> State | None:
    """Write `values` and give the lease back, if the claim still holds it. Return the job's new state."""
    held = (jobs.c.id == claim.job_id, jobs.c.token == claim.token, jobs.c.state == State.EXECUTING)
    statement = update(jobs).where(*held).values(token=None, lease_until=None, **values).returning(jobs.c.state)
    state = locked.tx.connection.scalar(statement)
    return None if state is None else State(state)


def _settle_late(locked: LockedRoute, claim: Claim, end: CallEnd) -> None:
    """Settle after the lease was lost. A success still covers the needs that came before it began; a failure changes nothing."""
    if end.outcome is Outcome.SUCCESS:
        statement = update(jobs).where(jobs.c.id == claim.job_id).values(covered_seq=_raise_to(claim.covers_seq))
        locked.tx.connection.execute(statement)


def _has_other_keys(locked: LockedRoute, claim: Claim, breaker: Breaker) -> bool:
    """Whether other jobs of the route wait or are being called. A parked one counts if a refund is about to open it again."""
    active: list[tuple[ColumnElement[bool], ...]] = [(waiting,), (executing,)]
    if not breaker.open:
        active.append((*_is_refundable(locked, breaker), *_parked_by_fault()))
    others = select(jobs.c.id).where(jobs.c.route == locked.route.name, jobs.c.id != claim.job_id).limit(1)
    return any(locked.tx.connection.scalar(others.where(*these)) is not None for these in active)


def _refund_first_key(locked: LockedRoute) -> None:
    """Give the key that failed first its attempts back: the breaker has opened, so those failures were the API's fault too.

    The last of them may have parked the job; then it is retried. The refund counts as one miss, up to their bound: otherwise
    two failing keys could open the breaker for each other for ever.
    """
    breaker, now = locked.breaker, locked.now
    refundable = update(jobs).where(*_is_refundable(locked, breaker))
    due_at = now + round(locked.route.probe_interval * 1000)
    reopened = refundable.where(*_parked_by_fault()).values(state=State.RETRYABLE, due_at=due_at, changed_at=now)
    locked.tx.connection.execute(reopened)
    unspent = case((jobs.c.attempts > breaker.faults, jobs.c.attempts - breaker.faults), else_=0)
    locked.tx.connection.execute(refundable.values(attempts=unspent, misses=jobs.c.misses + 1))


def _is_refundable(locked: LockedRoute, breaker: Breaker) -> tuple[ColumnElement[bool], ...]:
    route = locked.route
    return jobs.c.route == route.name, jobs.c.key == breaker.first_key, jobs.c.misses < route.retry.max_misses


def _parked_by_fault() -> tuple[ColumnElement[bool], ...]:
    return jobs.c.state == State.PARKED, jobs.c.outcome.in_(FAULTS)


def _asks_to_wait(end: CallEnd) -> bool:
    return end.outcome is Outcome.THROTTLED or (end.outcome is Outcome.API_FAULT and bool(end.retry_after))


def _waits_alone(locked: LockedRoute, claim: Claim) -> bool:
    """Whether the job's previous call was told to wait, and the API has served others since."""
    previous = select(attempts.c.ended_at).where(
        attempts.c.job_id == claim.job_id,
        attempts.c.number == claim.number - 1,
        attempts.c.outcome.in_([Outcome.THROTTLED, Outcome.API_FAULT]),
    )
    since = locked.tx.connection.scalar(previous)
    if since is None:
        return False
    served = (
        select(attempts.c.id)
        .join(jobs)
        .where(jobs.c.route == locked.route.name, jobs.c.id != claim.job_id)
        .where(attempts.c.began_at >= since, attempts.c.outcome == Outcome.SUCCESS)
    )
    return locked.tx.connection.scalar(served.limit(1)) is not None
