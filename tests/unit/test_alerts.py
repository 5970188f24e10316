"""What begins, goes on and is over; and what the words of an alert are made of. No ledger is needed for that."""

from types import SimpleNamespace
from typing import Any

import pytest

from tasks.dlq.alerts.alert import Alert
from tasks.dlq.alerts.state import compare
from tasks.dlq.alerts.text import burst_text, cause, clock_time, group_text, in_words, over_words, paused_text


def an_alert(fingerprint: str, text: str = "3 jobs") -> Alert:
    return Alert(kind="burst", fingerprint=fingerprint, title="title", text=text, route="employees", count=3)


def a_row(fingerprint: str, text: str = "3 jobs") -> Any:
    return SimpleNamespace(fingerprint=fingerprint, text=text)


def test_new_trouble_begins():
    changes = compare({}, [an_alert("a")])

    assert [alert.fingerprint for alert in changes.begin] == ["a"]
    assert not changes.go_on
    assert not changes.over


def test_known_trouble_goes_on_silently():
    changes = compare({"a": a_row("a")}, [an_alert("a")])

    assert [*changes.begin, *changes.go_on, *changes.over] == []


def test_known_trouble_with_another_count_is_only_kept_up_to_date():
    changes = compare({"a": a_row("a", "3 jobs")}, [an_alert("a", "4 jobs")])

    assert [alert.text for alert in changes.go_on] == ["4 jobs"]
    assert [*changes.begin, *changes.over] == []


def test_gone_trouble_is_over():
    changes = compare({"a": a_row("a"), "b": a_row("b")}, [an_alert("b")])

    assert [row.fingerprint for row in changes.over] == ["a"]


def test_a_fingerprint_is_one_alert_however_often_it_is_found():
    assert len(compare({}, [an_alert("a"), an_alert("a")]).begin) == 1


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        ({"outcome": "hopeless", "status": 404}, "HTTP 404 (hopeless)"),
        ({"outcome": "api_fault", "status": 503}, "HTTP 503 (api fault)"),
        ({"outcome": "deadline"}, "deadline"),
        ({"outcome": ""}, "unknown"),
    ],
)
def test_cause(facts: dict[str, Any], words: str):
    assert cause(facts) == words


def test_counts_and_times_read_well():
    assert in_words(1, "job") == "1 job"
    assert in_words(2, "job") == "2 jobs"
    assert clock_time(1_700_000_000_000) == "2023-11-14 22:13 UTC"


def test_a_text_says_what_how_many_since_when_and_what_to_run():
    text = group_text("employees", 3, {"outcome": "hopeless", "status": 404, "since": "2023-11-14 22:13 UTC", "first_job": 17})

    assert "3 jobs of route employees are parked since 2023-11-14 22:13 UTC: HTTP 404 (hopeless)" in text
    assert "redrive show 17" in text
    assert "redrive jobs --state parked --route employees" in text
    assert "redrive resume employees" in paused_text("employees", "now")
    assert "21 calls of route employees failed within 300 seconds" in burst_text("employees", 21, 300.0)


@pytest.mark.parametrize(
    ("kind", "facts", "what"),
    [
        ("route_paused", {}, "the route is resumed"),
        ("burst", {}, "calls no longer fail in a burst"),
        ("failure_group", {"outcome": "hopeless", "status": 404}, "no job is parked any more for HTTP 404 (hopeless)"),
        ("failure_group", {"groups": 4}, "no more failure groups than are told one by one"),
    ],
)
def test_the_end_is_told_by_what_it_was(kind: str, facts: dict[str, Any], what: str):
    title, text = over_words(kind, "employees", facts, 1_700_000_000_000)

    assert title == f"employees: over: {what}"
    assert text.endswith("It began 2023-11-14 22:13 UTC.")
