"""What each kind of alert detects in a ledger, when it begins and when it is over."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from alerts_bench import AlertBench, open_bench
from ledger_bench import EMPLOYEES, URLS
from sqlalchemy import update

from tasks.dlq.alerts import kinds
from tasks.dlq.calls.breaker import Breaker
from tasks.dlq.ledger import groups
from tasks.dlq.ledger.routes import lock_route
from tasks.dlq.ledger.schema import jobs


@pytest.fixture(params=URLS)
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[AlertBench]:
    yield from open_bench(request.param, tmp_path)


# --- failure groups --------------------------------------------------------------------------------------------------


def test_a_failure_group_is_one_alert_with_its_count(bench: AlertBench):
    first = bench.add_job()
    for _ in range(39):
        bench.add_job()

    for _ in range(3):
        bench.sweep()

    (alert,) = bench.sink.alerts
    assert (alert.kind, alert.severity, alert.subject) == ("failure_group", "error", "employees")
    assert alert.fingerprint == "group:g404"
    assert alert.count == 40
    assert alert.title == "employees: 40 jobs parked, HTTP 404 (hopeless)"
    assert alert.text == (
        "40 jobs of route employees are parked since 2023-11-14 22:13 UTC: HTTP 404 (hopeless). "
        "Nothing is lost. A parked job waits for a replay or for a new failure of the same entity.\n"
        f"The first: redrive show {first}\n"
        "All of them: redrive jobs --group g404 --state parked\n"
        f"Call one again: redrive replay {first}"
    )
    assert alert.facts == {"outcome": "hopeless", "status": 404, "first_job": first, "since": "2023-11-14 22:13 UTC"}
    assert not alert.over


def test_an_alert_holds_no_answer_and_no_key(bench: AlertBench):
    bench.add_job(detail="no such employee: Jane Doe <jane@company.com>", key='{"employeeId":"778899"}')
    bench.sweep()

    everything = repr(bench.sink.alerts) + repr(bench.alert_rows())
    assert "Jane" not in everything
    assert "778899" not in everything


def test_a_group_that_grows_is_not_sent_again(bench: AlertBench):
    bench.add_job()
    bench.sweep()
    for _ in range(9):
        bench.add_job()
    bench.sweep()

    assert [alert.count for alert in bench.sink.alerts] == [1]
    (row,) = bench.alert_rows()
    assert (row["count"], row["title"]) == (10, "employees: 10 jobs parked, HTTP 404 (hopeless)")


@pytest.mark.parametrize("state", ["completed", "discarded", "scheduled"])
def test_a_group_is_over_when_it_is_empty_and_can_begin_again(bench: AlertBench, state: str):
    bench.add_job()
    bench.sweep()
    bench.change_jobs(state)
    bench.sweep()
    bench.sweep()
    assert bench.sink.over == [False, True]
    assert bench.sink.titles[-1] == "employees: over: no job is parked any more for HTTP 404 (hopeless)"

    bench.add_job()
    bench.sweep()
    bench.sweep()
    assert bench.sink.over == [False, True, False]
    assert {alert.fingerprint for alert in bench.sink.alerts} == {"group:g404"}


def test_each_group_has_an_alert_and_retrying_jobs_have_none(bench: AlertBench):
    bench.add_job()
    bench.add_job(group="g500", outcome="api_fault", status=500)
    bench.add_job(group="deadline", outcome="deadline", status=None)
    bench.add_job(group="crashed", outcome=None, status=None)
    bench.add_job(group="retrying", state="retryable")
    bench.add_job(group="recovered", state="completed")
    bench.sweep()

    assert sorted(bench.sink.titles) == [
        "employees: 1 job parked, HTTP 404 (hopeless)",
        "employees: 1 job parked, HTTP 500 (api fault)",
        "employees: 1 job parked, deadline",
        "employees: 1 job parked, unknown",
    ]


def test_further_groups_of_a_route_share_one_alert(bench: AlertBench):
    for n in range(25):
        bench.add_job(group=f"g{n:02}")
    bench.add_job(route="badges", group="b")
    bench.sweep()

    assert len([t for t in bench.sink.titles if t.startswith("employees: 1 job parked")]) == kinds.GROUPS_PER_ROUTE
    assert "employees: 15 more failure groups" in bench.sink.titles
    assert "badges: 1 job parked, HTTP 404 (hopeless)" in bench.sink.titles
    assert len(bench.sink.alerts) == kinds.GROUPS_PER_ROUTE + 2

    for n in range(25):
        bench.change_jobs("completed", f"g{n:02}")
    bench.sweep()
    bench.sweep()
    assert sum(bench.sink.over) == kinds.GROUPS_PER_ROUTE + 1
    assert "employees: over: there are no more than 10 failure groups" in bench.sink.titles


def test_a_group_keeps_its_alert_when_its_first_job_is_gone(bench: AlertBench):
    """Otherwise another group would take its place, and a group that is not over would be reported as over."""
    first = bench.add_job(group="g00")
    for n in range(1, 15):
        bench.add_job(group=f"g{n:02}")
        bench.clock.advance(1)
    bench.add_job(group="g00")
    bench.sweep()
    with bench.ledger.begin() as tx:
        tx.connection.execute(update(jobs).where(jobs.c.id == first).values(state="completed"))
    bench.sweep()

    assert not any(bench.sink.over)


def test_a_group_beyond_the_querys_bound_is_not_over(bench: AlertBench, monkeypatch: pytest.MonkeyPatch):
    bench.add_job(group="zz")
    bench.sweep()
    monkeypatch.setattr(groups, "MAX_GROUPS", 3)
    for n in range(6):
        bench.add_job(group=f"a{n}")
    bench.sweep()

    assert not any(bench.sink.over)
    assert "group:zz" in {row["fingerprint"] for row in bench.alert_rows() if row["state"] == "firing"}


# --- bursts ----------------------------------------------------------------------------------------------------------


def test_too_many_failed_calls_are_a_burst_until_they_are_old(bench: AlertBench):
    bench.add_attempts(20)
    bench.sweep()
    assert not bench.sink.alerts, "twenty are allowed"

    bench.add_attempts(1)
    for _ in range(3):
        bench.sweep()
    (alert,) = bench.sink.alerts
    assert (alert.kind, alert.severity, alert.fingerprint, alert.count) == ("burst", "warning", "burst:employees", 21)
    assert alert.text.startswith("21 calls of route employees failed within 300 seconds.")

    bench.clock.advance(300)
    bench.sweep()
    assert bench.sink.over == [False, True]
    assert bench.sink.titles[-1] == "employees: over: calls no longer fail in a burst"


def test_a_burst_does_not_flicker_around_its_bound(bench: AlertBench):
    bench.add_attempts(10)
    bench.clock.advance(200)
    bench.add_attempts(11)
    bench.sweep()
    assert len(bench.sink.alerts) == 1

    bench.clock.advance(100)  # the first ten are too old: 11 are left, more than half of twenty
    bench.sweep()
    assert len(bench.sink.alerts) == 1

    bench.add_attempts(10)  # 21 again, and still the same burst
    bench.sweep()
    assert len(bench.sink.alerts) == 1

    bench.clock.advance(140)  # ten are left: half
    bench.sweep()
    assert bench.sink.over == [False, True]


@pytest.mark.parametrize("outcome", ["success", "not_sent", None])
def test_only_calls_that_were_sent_and_failed_count(bench: AlertBench, outcome: str | None):
    bench.add_attempts(50, outcome=outcome)
    bench.sweep()

    assert not bench.sink.alerts


def test_the_calls_of_each_route_are_counted_apart(bench: AlertBench):
    bench.add_attempts(15, route="employees")
    bench.add_attempts(15, route="badges")
    bench.sweep()
    assert not bench.sink.alerts

    bench.add_attempts(6, route="badges")
    bench.sweep()
    assert [alert.subject for alert in bench.sink.alerts] == ["badges"]


# --- routes ----------------------------------------------------------------------------------------------------------


def test_a_route_that_paused_itself_is_an_alert_until_it_is_resumed(bench: AlertBench):
    with bench.ledger.begin() as tx:
        lock_route(tx, EMPLOYEES).pause(by="redrive", reason="HTTP 401: token t0p53cret")
    bench.sweep()
    bench.sweep()
    (alert,) = bench.sink.alerts
    assert (alert.kind, alert.severity, alert.fingerprint) == ("route_paused", "error", "paused:employees")
    assert "paused itself at 2023-11-14 22:13 UTC" in alert.text
    assert "run: redrive resume employees" in alert.text
    assert "t0p53cret" not in repr(alert)

    with bench.ledger.begin() as tx:
        lock_route(tx, EMPLOYEES).resume()
    bench.sweep()
    assert bench.sink.titles[-1] == "employees: over: the route is resumed"


def test_a_route_that_a_person_paused_is_no_alert(bench: AlertBench):
    with bench.ledger.begin() as tx:
        lock_route(tx, EMPLOYEES).pause(by="anna", reason="deploy")
    bench.sweep()

    assert not bench.sink.alerts


def test_ten_faults_in_a_row_are_an_alert_until_the_api_answers(bench: AlertBench):
    with bench.ledger.begin() as tx:
        lock_route(tx, EMPLOYEES).save_breaker(Breaker(open=True, faults=9))
    bench.sweep()
    assert not bench.sink.alerts
    with bench.ledger.begin() as tx:
        lock_route(tx, EMPLOYEES).save_breaker(Breaker(open=True, faults=10))
    bench.sweep()
    bench.sweep()
    (alert,) = bench.sink.alerts
    assert (alert.kind, alert.severity, alert.fingerprint) == ("breaker_open", "error", "breaker:employees")
    assert alert.text.startswith("The last 10 calls of route employees failed because of the API")
    assert alert.text.endswith("redrive stats")
    with bench.ledger.begin() as tx:
        lock_route(tx, EMPLOYEES).save_breaker(Breaker())
    bench.sweep()
    assert bench.sink.titles[-1] == "employees: over: the API answers again"
