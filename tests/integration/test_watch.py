"""The watch over a real ledger: told once when it begins, once when it is over, by however many workers and sinks."""

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ledger_bench import SQLITE, URLS, a_database
from sqlalchemy import select, text, update

from tasks.dlq.alerts import detection
from tasks.dlq.alerts.alert import Alert
from tasks.dlq.alerts.delivery import LEASE, RETRY, Teller, Told, tell
from tasks.dlq.alerts.state import KEPT, Burst, watch
from tasks.dlq.calls.breaker import Breaker
from tasks.dlq.ledger import Ledger, ManualClock
from tasks.dlq.ledger.routes import ensure_routes, keep_breaker, pause_route, resume_route
from tasks.dlq.ledger.schema import alerts, attempts, jobs

BURST = Burst(failures=20, within=300.0)


class Ear:
    """A sink that remembers what it was told. While `deaf` it takes nothing."""

    def __init__(self, name: str = "ear") -> None:
        self.name = name
        self.heard: list[Alert] = []
        self.deaf = False
        self.asked = 0

    def send(self, alert: Alert) -> bool:
        self.asked += 1
        if not self.deaf:
            self.heard.append(alert)
        return not self.deaf

    @property
    def titles(self) -> list[str]:
        return [alert.title for alert in self.heard]


class Bench:
    """A ledger with a clock that is moved by hand, and short ways to make trouble in it."""

    def __init__(self, url: str) -> None:
        self.clock = ManualClock()
        self.url = url
        self.ledger = Ledger(self.url, clock=self.clock)
        self.ear = Ear()
        self._keys = 0

    def job(self, *, route: str = "employees", state: str = "parked", group: str = "g404", **values: Any) -> int:
        self._keys += 1
        row = {
            "route": route,
            "key": f'{{"employeeId":"{self._keys}"}}',
            "state": state,
            "group_key": group,
            "outcome": "hopeless",
            "status": 404,
            "detail": "no such employee: Jane Doe",
            "due_at": self.clock.now,
            "last_seq": 1,
            "created_at": self.clock.now,
            "changed_at": self.clock.now,
            **values,
        }
        with self.ledger.begin() as tx:
            return int(tx.connection.execute(jobs.insert().returning(jobs.c.id), row).scalar_one())

    def attempts(self, count: int, *, outcome: str | None = "api_fault", route: str = "employees") -> None:
        job_id = self.job(route=route, state="retryable", group="retrying")
        rows = [
            {
                "job_id": job_id,
                "number": n,
                "token": f"{route}-{job_id}-{n}",
                "fence": n,
                "mark": 1,
                "worker": "w",
                "began_at": self.clock.now,
                "outcome": outcome,
            }
            for n in range(count)
        ]
        with self.ledger.begin() as tx:
            tx.connection.execute(attempts.insert(), rows)

    def settle_all(self, state: str, group: str = "g404") -> None:
        with self.ledger.begin() as tx:
            tx.connection.execute(update(jobs).where(jobs.c.group_key == group).values(state=state, changed_at=self.clock.now))

    def sweep(self, *sinks: Ear) -> Told:
        """Watch and tell, as one sweep of beat does; then let the time pass until the next."""
        watch(self.ledger, burst=BURST)
        told = tell(self.ledger, sinks or (self.ear,))
        self.clock.advance(30)
        return told

    def rows(self) -> list[Any]:
        with self.ledger.begin(read_only=True) as tx:
            return list(tx.connection.execute(select(alerts).order_by(alerts.c.fingerprint)).mappings())


@pytest.fixture(params=URLS)
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    with a_database(request.param, tmp_path) as url:
        made = Bench(url)
        yield made
        made.ledger.close()


# --- failure groups --------------------------------------------------------------------------------------------------


def test_a_failure_group_that_parks_is_told_once_with_its_fingerprint_and_count(bench: Bench):
    first = bench.job()
    for _ in range(39):
        bench.job()

    for _ in range(3):
        bench.sweep()

    (alert,) = bench.ear.heard
    assert alert.kind == "failure_group"
    assert alert.fingerprint == "group:g404"
    assert alert.count == 40
    assert alert.title == "employees: 40 jobs parked, HTTP 404 (hopeless)"
    assert alert.facts == {"outcome": "hopeless", "status": 404, "first_job": first, "since": "2023-11-14 22:13 UTC"}
    assert not alert.over


def test_nothing_of_an_answer_or_a_key_is_in_an_alert(bench: Bench):
    bench.job(detail="no such employee: Jane Doe <jane@company.com>", key='{"employeeId":"778899"}')
    bench.sweep()

    everything = repr(bench.ear.heard) + repr(bench.rows())
    assert "Jane" not in everything
    assert "778899" not in everything


def test_a_group_that_grows_is_not_told_again_but_its_count_follows(bench: Bench):
    bench.job()
    bench.sweep()
    for _ in range(9):
        bench.job()
    bench.sweep()

    assert [alert.count for alert in bench.ear.heard] == [1]
    (row,) = bench.rows()
    assert (row["count"], row["title"]) == (10, "employees: 10 jobs parked, HTTP 404 (hopeless)")


@pytest.mark.parametrize("state", ["completed", "discarded", "scheduled"])
def test_a_group_is_over_when_it_is_empty_and_told_again_only_when_it_comes_back(bench: Bench, state: str):
    bench.job()
    bench.sweep()
    bench.settle_all(state)
    bench.sweep()
    bench.sweep()
    assert [alert.over for alert in bench.ear.heard] == [False, True]
    assert bench.ear.titles[-1] == "employees: over: no job is parked any more for HTTP 404 (hopeless)"

    bench.job()
    bench.sweep()
    bench.sweep()
    assert [alert.over for alert in bench.ear.heard] == [False, True, False]
    assert {alert.fingerprint for alert in bench.ear.heard} == {"group:g404"}


def test_groups_are_told_apart_and_jobs_that_only_retry_are_no_group(bench: Bench):
    bench.job()
    bench.job(group="g500", outcome="api_fault", status=500)
    bench.job(group="deadline", outcome="deadline", status=None)
    bench.job(group="retrying", state="retryable")
    bench.job(group="mended", state="completed")
    bench.sweep()

    assert sorted(bench.ear.titles) == [
        "employees: 1 job parked, HTTP 404 (hopeless)",
        "employees: 1 job parked, HTTP 500 (api fault)",
        "employees: 1 job parked, deadline",
    ]


def test_a_flood_of_groups_is_no_flood_of_alerts(bench: Bench):
    for n in range(25):
        bench.job(group=f"g{n:02}")
    bench.job(route="badges", group="b")
    bench.sweep()

    assert len([t for t in bench.ear.titles if t.startswith("employees: 1 job parked")]) == detection.GROUPS_PER_ROUTE
    assert "employees: 15 more failure groups" in bench.ear.titles
    assert "badges: 1 job parked, HTTP 404 (hopeless)" in bench.ear.titles
    assert len(bench.ear.heard) == detection.GROUPS_PER_ROUTE + 2

    for n in range(25):
        bench.settle_all("completed", f"g{n:02}")
    bench.sweep()
    bench.sweep()
    assert len([a for a in bench.ear.heard if a.over]) == detection.GROUPS_PER_ROUTE + 1
    assert "employees: over: no more failure groups than are told one by one" in bench.ear.titles


def test_a_group_that_was_told_keeps_its_place_when_its_first_job_is_gone(bench: Bench):
    """Which groups are told one by one must not change with who happens to be the oldest: that would tell ends that are none."""
    first = bench.job(group="g00")
    for n in range(1, 15):
        bench.job(group=f"g{n:02}")
        bench.clock.advance(1)
    bench.job(group="g00")
    bench.sweep()
    with bench.ledger.begin() as tx:
        tx.connection.execute(update(jobs).where(jobs.c.id == first).values(state="completed"))
    bench.sweep()

    assert not [alert for alert in bench.ear.heard if alert.over]


def test_groups_beyond_the_scans_bound_are_not_taken_for_over(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    bench.job(group="zz")
    bench.sweep()
    monkeypatch.setattr(detection, "GROUPS_SEEN", 3)
    for n in range(6):
        bench.job(group=f"a{n}")
    bench.sweep()

    assert not [alert for alert in bench.ear.heard if alert.over]
    assert "group:zz" in {row["fingerprint"] for row in bench.rows() if row["state"] == "firing"}


@pytest.mark.parametrize("bench", [SQLITE], indirect=True)
def test_looking_does_not_read_the_jobs_of_a_group(bench: Bench):
    """The hot query must not grow with the ledger: SQLite says by which index it walks."""
    with bench.ledger.begin(read_only=True) as tx:
        query = str(detection._every_group().compile(tx.connection, compile_kwargs={"literal_binds": True}))
        plan = [row.detail for row in tx.connection.execute(text("EXPLAIN QUERY PLAN " + query))]

    assert not [step for step in plan if step.startswith("SCAN jobs")], plan
    assert [step for step in plan if "USING COVERING INDEX ix_jobs_group (group_key>?)" in step], plan
    assert [step for step in plan if "USING COVERING INDEX ix_jobs_group (group_key=? AND state=?)" in step], plan


# --- bursts ----------------------------------------------------------------------------------------------------------


def test_more_failures_than_allowed_within_the_time_are_told_once_and_again_when_over(bench: Bench):
    bench.attempts(20)
    bench.sweep()
    assert not bench.ear.heard, "twenty are allowed"

    bench.attempts(1)
    for _ in range(3):
        bench.sweep()
    (alert,) = bench.ear.heard
    assert (alert.kind, alert.fingerprint, alert.count, alert.over) == ("burst", "burst:employees", 21, False)

    bench.clock.advance(300)
    bench.sweep()
    assert [alert.over for alert in bench.ear.heard] == [False, True]


def test_a_burst_does_not_flicker_around_its_bound(bench: Bench):
    bench.attempts(10)
    bench.clock.advance(200)
    bench.attempts(11)
    bench.sweep()
    assert len(bench.ear.heard) == 1

    bench.clock.advance(100)  # the first ten are out of the window: 11 are left, above half of twenty
    bench.sweep()
    assert len(bench.ear.heard) == 1

    bench.attempts(10)  # 21 again, and still the same burst
    bench.sweep()
    assert len(bench.ear.heard) == 1

    bench.clock.advance(140)  # the ten are left: half
    bench.sweep()
    assert [alert.over for alert in bench.ear.heard] == [False, True]


@pytest.mark.parametrize("outcome", ["success", "not_sent", None])
def test_successes_and_calls_that_never_left_or_never_ended_are_no_failures(bench: Bench, outcome: str | None):
    bench.attempts(50, outcome=outcome)
    bench.sweep()

    assert not bench.ear.heard


def test_routes_burst_for_themselves(bench: Bench):
    bench.attempts(15, route="employees")
    bench.attempts(15, route="badges")
    bench.sweep()
    assert not bench.ear.heard

    bench.attempts(6, route="badges")
    bench.sweep()
    assert [alert.route for alert in bench.ear.heard] == ["badges"]


# --- paused routes ---------------------------------------------------------------------------------------------------


def test_a_route_that_paused_itself_is_told_until_it_is_resumed(bench: Bench):
    with bench.ledger.begin() as tx:
        pause_route(tx, "employees", by="redrive", reason="HTTP 401: token t0p53cret")
    bench.sweep()
    bench.sweep()
    (alert,) = bench.ear.heard
    assert (alert.kind, alert.fingerprint) == ("route_paused", "paused:employees")
    assert "redrive resume employees" in alert.text
    assert "t0p53cret" not in repr(alert)

    with bench.ledger.begin() as tx:
        resume_route(tx, "employees")
    bench.sweep()
    assert bench.ear.titles[-1] == "employees: over: the route is resumed"


def test_an_api_that_fails_ten_times_in_a_row_is_told_until_it_answers(bench: Bench):
    with bench.ledger.begin() as tx:
        ensure_routes(tx, ["employees"])
        keep_breaker(tx, "employees", Breaker(open=True, faults=9))
    bench.sweep()
    assert not bench.ear.heard
    with bench.ledger.begin() as tx:
        keep_breaker(tx, "employees", Breaker(open=True, faults=10))
    bench.sweep()
    bench.sweep()
    (alert,) = bench.ear.heard
    assert (alert.kind, alert.fingerprint) == ("breaker_open", "breaker:employees")
    assert "redrive stats" in alert.text
    with bench.ledger.begin() as tx:
        keep_breaker(tx, "employees", Breaker())
    bench.sweep()
    assert bench.ear.titles[-1] == "employees: over: the API answers again"


def test_a_route_that_a_person_paused_is_no_news(bench: Bench):
    with bench.ledger.begin() as tx:
        pause_route(tx, "employees", by="anna", reason="deploy")
    bench.sweep()

    assert not bench.ear.heard


# --- telling ---------------------------------------------------------------------------------------------------------


def test_a_sink_that_is_down_is_asked_again_and_the_others_hear_nothing_twice(bench: Bench):
    good, bad = Ear("good"), Ear("bad")
    bad.deaf = True
    bench.job()
    assert bench.sweep(good, bad) == Told(told=0, waiting=1)
    assert bench.sweep(good, bad) == Told(told=0, waiting=1)
    assert (len(good.heard), bad.asked) == (1, 2)

    bad.deaf = False
    assert bench.sweep(good, bad) == Told(told=1, waiting=0)
    assert bench.sweep(good, bad) == Told()
    assert (len(good.heard), len(bad.heard)) == (1, 1)


def test_a_sink_that_failed_is_left_alone_for_a_while(bench: Bench):
    bench.ear.deaf = True
    bench.job()
    watch(bench.ledger, burst=BURST)
    tell(bench.ledger, [bench.ear])
    tell(bench.ledger, [bench.ear])
    assert bench.ear.asked == 1

    bench.clock.advance(RETRY / 1000)
    tell(bench.ledger, [bench.ear])
    assert bench.ear.asked == 2


def test_a_sink_that_is_down_costs_one_try_a_go_however_much_there_is_to_tell(bench: Bench):
    good, bad = Ear("good"), Ear("bad")
    bad.deaf = True
    for n in range(6):
        bench.job(group=f"g{n}")
    assert bench.sweep(good, bad) == Told(told=0, waiting=6)

    assert (len(good.heard), bad.asked) == (6, 1)


def test_a_sink_that_raises_is_a_sink_that_failed_and_its_message_is_not_logged(bench: Bench, caplog: pytest.LogCaptureFixture):
    class Broken(Ear):
        def send(self, alert: Alert) -> bool:
            raise OSError(f"slack://T0K3N/{alert.route}")

    bench.job()
    assert bench.sweep(Broken("broken"), bench.ear) == Told(told=0, waiting=1)
    assert len(bench.ear.heard) == 1
    assert "alert sink broken failed: OSError" in caplog.text
    assert "T0K3N" not in caplog.text


def test_when_nobody_listens_there_is_nothing_left_to_tell(bench: Bench):
    bench.job()
    watch(bench.ledger, burst=BURST)

    assert tell(bench.ledger, []) == Told(told=1, waiting=0)


def test_what_is_over_before_it_could_be_told_is_told_as_it_is(bench: Bench):
    bench.ear.deaf = True
    bench.job()
    bench.sweep()
    bench.settle_all("completed")
    bench.ear.deaf = False
    bench.sweep()
    bench.sweep()

    assert [alert.over for alert in bench.ear.heard] == [True]


def test_a_change_during_the_telling_is_told_afterwards(bench: Bench):
    class Slow(Ear):
        def send(self, alert: Alert) -> bool:
            if not self.heard:
                bench.settle_all("completed")
                watch(bench.ledger, burst=BURST)
                assert tell(bench.ledger, [other]) == Told(), "one teller at a time has an alert"
            return super().send(alert)

    other, slow = Ear(), Slow()
    bench.job()
    watch(bench.ledger, burst=BURST)
    tell(bench.ledger, [slow])

    assert [alert.over for alert in slow.heard] == [False, True]
    assert not other.heard


def test_a_teller_that_died_is_followed_by_another(bench: Bench):
    class Died(BaseException):
        """As a kill: nothing is noted."""

    class Deadly(Ear):
        def send(self, alert: Alert) -> bool:
            raise Died(alert.title)

    bench.job()
    watch(bench.ledger, burst=BURST)
    with pytest.raises(Died):
        tell(bench.ledger, [Deadly()])
    assert tell(bench.ledger, [bench.ear]) == Told()

    bench.clock.advance(LEASE / 1000)
    assert tell(bench.ledger, [bench.ear]) == Told(told=1)
    assert len(bench.ear.heard) == 1


def test_many_workers_tell_once(bench: Bench):
    for n in range(8):
        bench.job(group=f"g{n}")
    ear = Ear()
    ready = threading.Barrier(4)

    def work() -> None:
        ledger = Ledger(bench.url, clock=bench.clock)
        ready.wait()
        watch(ledger, burst=BURST)
        tell(ledger, [ear])
        ledger.close()

    workers = [threading.Thread(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()

    assert sorted(alert.fingerprint for alert in ear.heard) == [f"group:g{n}" for n in range(8)]


def test_a_watch_that_was_slower_begins_nothing_twice(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    """Both have looked before either wrote: the second must find it done."""
    bench.job()
    transact = bench.ledger.transact
    other = Ledger(bench.url, clock=bench.clock)
    between: list[Any] = [lambda: watch(other, burst=BURST)]

    def late(work: Any) -> Any:
        while between:
            between.pop()()
        return transact(work)

    monkeypatch.setattr(bench.ledger, "transact", late)
    watched = watch(bench.ledger, burst=BURST)
    other.close()

    assert (watched.began, watched.over) == (0, 0)
    assert [row["revision"] for row in bench.rows()] == [1]


def test_what_is_long_over_is_forgotten(bench: Bench):
    bench.job()
    bench.sweep()
    bench.settle_all("completed")
    bench.sweep()
    bench.clock.advance(KEPT / 1000 - 60)
    bench.sweep()
    assert bench.rows()

    bench.clock.advance(60)
    bench.sweep()
    assert not bench.rows()


def test_the_teller_waits_for_no_sink(bench: Bench):
    entered, release = threading.Event(), threading.Event()

    class Hanging(Ear):
        def send(self, alert: Alert) -> bool:
            entered.set()
            release.wait()
            return super().send(alert)

    sink = Hanging()
    teller = Teller(bench.ledger, [sink])
    bench.job()
    watch(bench.ledger, burst=BURST)
    teller.wake()
    assert entered.wait(10)

    bench.job(group="g500", status=500)  # the ledger is free meanwhile, and a further wake-up is not held up
    watch(bench.ledger, burst=BURST)
    teller.wake()
    release.set()
    teller.close(patience=10)
    assert len(sink.heard) in {1, 2}  # closing may come between the two; what is left stays untold in the ledger
    assert sum(row["told"] for row in bench.rows()) == len(sink.heard)


def test_the_teller_outlives_a_ledger_that_is_away(bench: Bench, caplog: pytest.LogCaptureFixture):
    failed, told = threading.Event(), threading.Event()

    class Signalling(Ear):
        def send(self, alert: Alert) -> bool:
            told.set()
            return super().send(alert)

    class Away(Ledger):
        def transact(self, work: Any) -> Any:
            if not failed.is_set():
                failed.set()
                raise RuntimeError("away")
            return super().transact(work)

    ledger = Away(bench.url, clock=bench.clock)
    bench.job()
    watch(bench.ledger, burst=BURST)
    teller = Teller(ledger, [Signalling()])
    teller.wake()
    assert failed.wait(10)
    teller.wake()
    assert told.wait(10)
    teller.close(patience=10)
    ledger.close()
    assert "alerts could not be told: away" in caplog.text
