"""What holds work up: routes, the backlog, calls whose worker is gone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from tasks.dlq.text import format_count, format_span, join_names
from tasks.doctor.findings import Finding, State

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tasks.doctor.processes import Machine

#: Seconds for which a job may be due, before it is told: the sweeps come far more often.
_OVERDUE = 300.0
#: Seconds for which a lease may be over, before it is wrong: a sweep takes it back long before.
_NOT_RESCUED = 120.0


@dataclass(frozen=True, kw_only=True)
class RouteWork:
    """A route as the ledger has it; times are milliseconds by its clock. `oldest_due`: of the jobs that a claim may take."""

    name: str
    configured: bool = True
    paused: bool = False
    paused_by: str | None = None
    pause_reason: str | None = None
    breaker_open: bool = False
    not_before: int = 0
    last_call: int = 0
    oldest_due: int | None = None

    def late(self, now: int) -> float:
        """Return the seconds for which a job has been due."""
        return 0.0 if self.oldest_due is None else (now - self.oldest_due) / 1000

    def held(self, now: int) -> str:
        """Return why no call begins though a job is due; empty where nothing holds the route up."""
        if not self.configured:
            return f"{self.name} is not in redrive.toml"
        if self.paused:
            return f"{self.name} is paused"
        if self.breaker_open:
            return f"{self.name}'s breaker is open"
        if self.not_before > now:
            return f"{self.name} was told by its API to wait for {format_span((self.not_before - now) / 1000)} more"
        return ""


@dataclass(frozen=True, kw_only=True)
class Call:
    """A call in hand: who makes it (`host:pid`), and when its lease ends, in the ledger's milliseconds."""

    worker: str
    lease_until: int


@dataclass(frozen=True, kw_only=True)
class Work:
    """What the ledger has to do at one moment (`now`, in its milliseconds)."""

    now: int
    routes: Sequence[RouteWork] = ()
    calls: Sequence[Call] = ()
    waiting: int = 0
    parked: int = 0
    rejected: int = 0


def routes(states: Sequence[RouteWork]) -> Iterator[Finding]:
    """Tell what holds a route up."""
    for each in states:
        name = f"route {each.name}"
        if not each.configured:
            if each.oldest_due is not None:
                hint = f"put [routes.{each.name}] back, or run: redrive discard --route {each.name}"
                yield Finding(
                    name=name, state=State.WARNING, detail="has jobs that are due, but is not in redrive.toml", hint=hint
                )
        elif each.paused:
            detail = f"paused by {each.paused_by}: {each.pause_reason or 'no reason given'}"
            yield Finding(name=name, state=State.WARNING, detail=detail, hint=f"run: redrive resume {each.name}")
        elif each.breaker_open:
            detail = "the breaker is open: the API failed, and one call at a time probes it"
            hint = f"see to the API; then it closes by itself, or run: redrive resume {each.name}"
            yield Finding(name=name, state=State.WARNING, detail=detail, hint=hint)
        else:
            yield Finding(name=name, detail="takes calls")


def backlog(work: Work) -> Iterator[Finding]:
    """Judge how long work waits though nothing holds it up, and what waits for a person."""
    yield _waiting(work)
    if work.parked:
        hint = "look: redrive jobs --state parked; then redrive replay or redrive discard"
        yield Finding(name="parked", state=State.WARNING, detail=format_count(work.parked, "job"), hint=hint)
    if work.rejected:
        hint = "look: redrive rejects; then redrive repair"
        yield Finding(name="rejected", state=State.WARNING, detail=format_count(work.rejected, "dead letter"), hint=hint)


def _waiting(work: Work) -> Finding:
    now = work.now
    late = max((each.late(now) for each in work.routes), default=0.0)
    due = f"the oldest has been due for {format_span(late)}" if late >= 1 else "none is due"
    reasons = [each.held(now) for each in work.routes if each.late(now) >= 1 and each.held(now)]
    detail = "; ".join([f"{format_count(work.waiting, 'job')} waiting, {due}", *reasons])
    slow = [each for each in work.routes if each.late(now) > _OVERDUE and not each.held(now)]
    if stuck := [each.name for each in slow if now - each.last_call > _OVERDUE * 1000]:
        detail += f"; no call of {join_names(stuck)} has begun for {format_span(_OVERDUE)} or longer"
        hint = "see the lines of worker, beat, queues and calls; where they are well, see the worker's log, then restart it"
        return Finding(name="backlog", state=State.WRONG, detail=detail, hint=hint)
    if slow:
        hint = "calls are made, but slowly: see how fast the API answers; max_in_flight lets more calls run side by side"
        return Finding(name="backlog", state=State.WARNING, detail=detail, hint=hint)
    return Finding(name="backlog", detail=detail)


def calls(work: Work, machine: Machine) -> Iterator[Finding]:
    """Tell of calls in hand that nobody will settle."""
    over = [(work.now - each.lease_until) / 1000 for each in work.calls if each.lease_until <= work.now]
    if over:
        state = State.WRONG if max(over) > _NOT_RESCUED else State.WARNING
        detail = f"{format_count(len(over), 'call')} past the lease, for {format_span(max(over))}: the next sweep takes it back"
        hint = "nothing to do, unless it stays: then see the lines of beat and worker, who sweep"
        yield Finding(name="calls", state=state, detail=detail, hint=hint)
    left = [(each.lease_until - work.now) / 1000 for each in work.calls if each.lease_until > work.now and _lost(each, machine)]
    if left:
        whose = "1 call's worker is gone: it is" if len(left) == 1 else f"{len(left)} calls' workers are gone: they are"
        hint = "nothing to do; why it ended, its log tells, or the kernel's (out of memory)"
        detail = f"{whose} taken back in {format_span(max(left))}"
        yield Finding(name="calls", state=State.WARNING, detail=detail, hint=hint)


def _lost(call: Call, machine: Machine) -> bool:
    host, _, pid = call.worker.rpartition(":")
    return pid.isdecimal() and machine.lacks(host, int(pid))
