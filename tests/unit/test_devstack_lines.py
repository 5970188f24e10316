import json

from tasks.devstack.lines import readable


def line(**record: object) -> str:
    return json.dumps({"timestamp": "2026-01-01T00:00:00Z", "level": "info", "logger": "redrive.recovery", **record})


def test_a_json_line_is_an_event_with_its_facts():
    assert readable(line(event="called", job=1, parameters='{"employeeId": "1"}', sources=["a"])).plain == (
        'called job=1 parameters={"employeeId": "1"} sources=["a"]'
    )


def test_trouble_is_coloured_and_shows_its_traceback():
    text = readable(line(event="failed", level="error", exception="Traceback:\n  line 1"))
    assert text.plain == "failed\n    Traceback:\n      line 1"
    assert text.style == "red"


def test_other_lines_stay_as_they_are():
    for other in ("plain", "{not json", "[1]", '{"no": "message"}'):
        assert readable(other).plain == other


def test_empty_lines_are_left_out():
    assert [readable(line) for line in ("", "  ", "\t")] == [None] * 3


def test_what_celery_says_of_every_message_is_left_out_unless_it_is_trouble():
    assert readable(line(event="Task redrive.promote[1] received", logger="celery.worker.strategy")) is None
    assert readable(line(event="Task redrive.recover[1] raised", logger="celery.app.trace", level="error")) is not None


def test_nothing_steers_the_terminal():
    assert readable("\x1b[2Jgone").plain == "\\x1b[2Jgone"
    assert readable(line(event="a\x1b[2J\nforged", detail="\u202egnirts")).plain == "a\\x1b[2J\\nforged detail=\\u202egnirts"
