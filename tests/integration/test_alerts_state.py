"""How an alert begins, is updated and is over in the ledger, also with several workers."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from alerts_bench import KINDS, AlertBench, open_bench
from ledger_bench import SQLITE, URLS

from tasks.dlq.alerts.alert import Alert, Severity
from tasks.dlq.alerts.state import RETENTION, compare, update_alerts


def an_alert(fingerprint: str, text: str = "3 jobs") -> Alert:
    return Alert(
        kind="burst",
        severity=Severity.WARNING,
        fingerprint=fingerprint,
        subject="employees",
        title="title",
        text=text,
        over_text="it is over",
        count=3,
    )


def firing(*alerts: Alert) -> Any:
    return {alert.fingerprint: {"fingerprint": alert.fingerprint, "text": alert.text} for alert in alerts}


def fingerprints(alerts: Any) -> list[str]:
    return [alert["fingerprint"] if isinstance(alert, Mapping) else alert.fingerprint for alert in alerts]


# --- comparing -------------------------------------------------------------------------------------------------------


def test_a_new_condition_begins():
    changes = compare({}, [an_alert("a")])

    assert (fingerprints(changes.begun), changes.updated, changes.over) == (["a"], [], [])


def test_a_known_condition_changes_nothing():
    changes = compare(firing(an_alert("a")), [an_alert("a")])

    assert (changes.begun, changes.updated, changes.over) == ([], [], [])


def test_a_known_condition_with_another_text_is_updated():
    changes = compare(firing(an_alert("a", "3 jobs")), [an_alert("a", "4 jobs")])

    assert (changes.begun, [alert.text for alert in changes.updated], changes.over) == ([], ["4 jobs"], [])


def test_a_condition_that_is_gone_is_over():
    changes = compare(firing(an_alert("a"), an_alert("b")), [an_alert("b")])

    assert (changes.begun, changes.updated, fingerprints(changes.over)) == ([], [], ["a"])


def test_a_fingerprint_that_is_found_twice_is_one_alert():
    assert len(compare({}, [an_alert("a"), an_alert("a")]).begun) == 1


# --- in a ledger -----------------------------------------------------------------------------------------------------


@pytest.fixture(params=URLS)
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[AlertBench]:
    yield from open_bench(request.param, tmp_path)


def test_a_slower_worker_begins_nothing_twice(bench: AlertBench, monkeypatch: pytest.MonkeyPatch):
    """Both workers detect before either writes."""
    bench.add_job()
    interrupt_once(bench, monkeypatch)
    bench.update_alerts()

    assert [(row["state"], row["revision"]) for row in bench.alert_rows()] == [("firing", 1)]


def test_a_slower_worker_ends_nothing_twice(bench: AlertBench, monkeypatch: pytest.MonkeyPatch):
    bench.add_job()
    bench.update_alerts()
    bench.change_jobs("completed")
    interrupt_once(bench, monkeypatch)
    bench.update_alerts()

    assert [(row["state"], row["revision"]) for row in bench.alert_rows()] == [("over", 2)]


def interrupt_once(bench: AlertBench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let another worker update the alerts between the detection and the writing of the next update."""
    transact = bench.ledger.transact

    def interrupted(work: Any) -> Any:
        monkeypatch.undo()
        other = bench.connect()
        update_alerts(other, KINDS)
        other.close()
        return transact(work)

    monkeypatch.setattr(bench.ledger, "transact", interrupted)


@pytest.mark.parametrize("bench", [SQLITE], indirect=True)
def test_the_alerts_of_other_kinds_are_left_alone(bench: AlertBench):
    """A worker of another version may know them."""
    bench.add_job()
    bench.sweep()
    others = [kind for kind in KINDS if kind.name != "failure_group"]
    bench.change_jobs("completed")
    update_alerts(bench.ledger, others)
    assert [row["state"] for row in bench.alert_rows()] == ["firing"]

    bench.update_alerts()
    assert [row["state"] for row in bench.alert_rows()] == ["over"]


def test_an_alert_is_removed_long_after_it_was_over(bench: AlertBench):
    bench.add_job()
    bench.sweep()
    bench.change_jobs("completed")
    bench.sweep()
    bench.clock.advance(RETENTION / 1000 - 60)
    bench.sweep()
    assert bench.alert_rows()

    bench.clock.advance(60)
    bench.sweep()
    assert not bench.alert_rows()


def test_an_alert_that_was_not_delivered_is_not_removed(bench: AlertBench):
    bench.sink.down = True
    bench.add_job()
    bench.sweep()
    bench.change_jobs("completed")
    bench.sweep()
    bench.clock.advance(RETENTION / 1000 + 60)
    bench.sweep()

    assert [row["state"] for row in bench.alert_rows()] == ["over"]
