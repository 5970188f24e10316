"""What the doctor makes of routes, the backlog and open calls."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from test_doctor_processes import ELSEWHERE, machine

from tasks.dlq.ledger.backlog import Backlog, OpenCall, RouteBacklog
from tasks.doctor.findings import State
from tasks.doctor.work import judge_backlog, judge_calls, judge_routes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tasks.doctor.findings import Finding
    from tasks.doctor.processes import Machine

OK, WARNING, WRONG = State
NOW = 10_000_000


def states(findings: Iterator[Finding]) -> dict[str, State]:
    return {finding.name: finding.state for finding in findings}


def test_what_stops_a_route():
    def judge(**values: Any) -> list[Finding]:
        return list(judge_routes(Backlog(now=NOW, routes=[RouteBacklog(name="r", **values)]), ["r"]))

    [fine], [is_open] = judge(), judge(breaker_open=True)
    [paused] = judge(breaker_open=True, paused=True, paused_by="alice@host")
    assert [fine.state, is_open.state, paused.state] == [OK, WARNING, WARNING]
    assert paused.detail == "paused by alice@host: no reason given"
    assert is_open.hint.endswith("redrive resume r")
    assert paused.hint == "run: redrive resume r"


def test_a_route_that_is_not_configured_is_a_warning_while_it_has_jobs():
    assert not list(judge_routes(Backlog(now=NOW, routes=[RouteBacklog(name="old")]), []))
    [left] = judge_routes(Backlog(now=NOW, routes=[RouteBacklog(name="old", oldest_due=1)]), [])
    assert left.state is WARNING
    assert "[routes.old]" in left.hint


def overdue(*, configured: bool = True, **values: Any) -> Finding:
    """What is said of a route whose oldest job has been due for 301 s."""
    backlog = Backlog(now=NOW, waiting=3, routes=[RouteBacklog(name="r", oldest_due=NOW - 301_000, **values)])
    [found] = judge_backlog(backlog, ["r"] if configured else [])
    return found


def test_the_backlog():
    assert states(judge_backlog(Backlog(now=NOW), [])) == {"backlog": OK}
    waits = Backlog(now=NOW, parked=1, rejected=2)
    assert states(judge_backlog(waits, [])) == {"backlog": OK, "parked": WARNING, "rejected": WARNING}
    slow, stuck = overdue(called_lately=True), overdue()
    due = "3 jobs waiting, the oldest has been due for 5m"
    assert (slow.state, slow.detail) == (WARNING, due)
    assert (stuck.state, stuck.detail) == (WRONG, f"{due}; no call of r has begun for 5m or longer")


@pytest.mark.parametrize(
    ("stop", "why"),
    [
        ({"paused": True}, "r is paused"),
        ({"breaker_open": True}, "r's breaker is open"),
        ({"not_before": NOW + 20_000}, "the API of r asked to wait for 20s more"),
        ({"configured": False}, "r is not in redrive.toml"),
    ],
)
def test_a_backlog_of_a_route_that_is_stopped_says_so(stop: dict[str, Any], why: str):
    found = overdue(**stop)
    assert (found.state, found.detail) == (OK, f"3 jobs waiting, the oldest has been due for 5m; {why}")


def test_a_route_that_is_stopped_hides_no_other():
    late = NOW - 301_000
    routes = [RouteBacklog(name="r", paused=True, oldest_due=late), RouteBacklog(name="s", oldest_due=late)]
    assert states(judge_backlog(Backlog(now=NOW, waiting=2, routes=routes), ["r", "s"])) == {"backlog": WRONG}


def test_calls_that_no_worker_will_settle():
    def judge(*ends: int, at: Machine) -> list[tuple[State, str]]:
        calls = [OpenCall(worker="a:7", lease_until=NOW + end) for end in ends]
        return [(found.state, found.detail) for found in judge_calls(Backlog(now=NOW, calls=calls), at)]

    assert judge(20_000, at=machine(7)) == judge(20_000, at=ELSEWHERE) == judge(at=machine()) == []
    assert judge(20_000, at=machine()) == [(WARNING, "the worker of 1 call has ended: taken back in 20s")]
    assert judge(20_000, 9_000, at=machine()) == [(WARNING, "the worker of 2 calls has ended: taken back in 20s")]
    assert judge(-5_000, at=machine(7)) == [(WARNING, "the lease of 1 call expired 5s ago: the next sweep takes it back")]
    assert judge(-121_000, at=machine(7))[0][0] is WRONG
