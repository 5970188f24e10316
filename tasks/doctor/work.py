"""Judges what stops work: routes, the backlog, and calls whose worker is gone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tasks.dlq.text import format_count, format_span, join_names
from tasks.doctor.findings import Finding, State

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from tasks.dlq.ledger.backlog import Backlog, OpenCall, RouteBacklog
    from tasks.doctor.processes import Machine

#: Seconds that a job may be due before there is a finding; sweeps come far more often.
OVERDUE = 300.0
#: Seconds that a lease may be over before this is wrong; a sweep takes it back long before.
_NOT_RESCUED = 120.0


def judge_routes(backlog: Backlog, configured: Collection[str]) -> Iterator[Finding]:
    """Say what stops each route."""
    for route in backlog.routes:
        name = f"route {route.name}"
        if route.name not in configured:
            if route.oldest_due is not None:
                hint = (
                    f"put [routes.{route.name}] back, or look at the jobs: redrive jobs --route {route.name},"
                    " and discard them: redrive discard ID"
                )
                yield Finding(
                    name=name, state=State.WARNING, detail="has jobs that are due, but is not in redrive.toml", hint=hint
                )
        elif route.paused:
            detail = f"paused by {route.paused_by}: {route.pause_reason or 'no reason given'}"
            yield Finding(name=name, state=State.WARNING, detail=detail, hint=f"run: redrive resume {route.name}")
        elif route.breaker_open:
            detail = "the breaker is open: the API failed, and one call at a time probes it"
            hint = f"repair the API; then the breaker closes by itself, or run: redrive resume {route.name}"
            yield Finding(name=name, state=State.WARNING, detail=detail, hint=hint)
        else:
            yield Finding(name=name, detail="takes calls")


def judge_backlog(backlog: Backlog, configured: Collection[str]) -> Iterator[Finding]:
    """Judge how long jobs wait that nothing stops, and count what waits for a person."""
    yield _judge_waiting(backlog, configured)
    if backlog.parked:
        hint = "look: redrive jobs --state parked; then redrive replay or redrive discard"
        yield Finding(name="parked", state=State.WARNING, detail=format_count(backlog.parked, "job"), hint=hint)
    if backlog.rejected:
        hint = "look: redrive rejects; then redrive repair"
        yield Finding(name="rejected", state=State.WARNING, detail=format_count(backlog.rejected, "dead letter"), hint=hint)


def _judge_waiting(backlog: Backlog, configured: Collection[str]) -> Finding:
    now = backlog.now
    overdue = {route.name: (now - route.oldest_due) / 1000 for route in backlog.routes if route.oldest_due is not None}
    longest = max(overdue.values(), default=0.0)
    due = f"the oldest has been due for {format_span(longest)}" if longest >= 1 else "none is due"
    late = [route for route in backlog.routes if overdue.get(route.name, 0.0) >= 1]
    stops = {route.name: _describe_stop(route, now, configured) for route in late}
    detail = "; ".join([f"{format_count(backlog.waiting, 'job')} waiting, {due}", *filter(None, stops.values())])
    slow = [route for route in late if overdue[route.name] > OVERDUE and not stops[route.name]]
    if stuck := [route.name for route in slow if not route.called_lately]:
        detail += f"; no call of {join_names(stuck)} has begun for {format_span(OVERDUE)} or longer"
        hint = "see worker, beat, queues and calls here; if they are ok, see the worker's log, then restart it"
        return Finding(name="backlog", state=State.WRONG, detail=detail, hint=hint)
    if slow:
        hint = "calls are made, but slowly: see how fast the API answers; max_in_flight allows more calls at the same time"
        return Finding(name="backlog", state=State.WARNING, detail=detail, hint=hint)
    return Finding(name="backlog", detail=detail)


def _describe_stop(route: RouteBacklog, now: int, configured: Collection[str]) -> str:
    """Return why no call begins though a job is due; empty if nothing stops the route."""
    if route.name not in configured:
        return f"{route.name} is not in redrive.toml"
    if route.paused:
        return f"{route.name} is paused"
    if route.breaker_open:
        return f"{route.name}'s breaker is open"
    if route.not_before > now:
        return f"the API of {route.name} asked to wait for {format_span((route.not_before - now) / 1000)} more"
    return ""


def judge_calls(backlog: Backlog, machine: Machine) -> Iterator[Finding]:
    """Find open calls that no worker will settle."""
    now = backlog.now
    expired = [(now - call.lease_until) / 1000 for call in backlog.calls if call.lease_until <= now]
    if expired:
        state = State.WRONG if max(expired) > _NOT_RESCUED else State.WARNING
        calls = format_count(len(expired), "call")
        detail = f"the lease of {calls} expired {format_span(max(expired))} ago: the next sweep takes it back"
        hint = "nothing to do; if it stays, see beat and worker here: they sweep"
        yield Finding(name="calls", state=state, detail=detail, hint=hint)
    left = [(call.lease_until - now) / 1000 for call in backlog.calls if call.lease_until > now and _is_lost(call, machine)]
    if left:
        detail = f"the worker of {format_count(len(left), 'call')} has ended: taken back in {format_span(max(left))}"
        hint = "nothing to do; its log says why it ended, or the kernel's (out of memory)"
        yield Finding(name="calls", state=State.WARNING, detail=detail, hint=hint)


def _is_lost(call: OpenCall, machine: Machine) -> bool:
    host, _, pid = call.worker.rpartition(":")
    return pid.isdecimal() and machine.has_ended(host, int(pid))
