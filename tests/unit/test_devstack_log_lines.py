import json

from tasks.devstack.log_lines import format_line


def line(**record: object) -> str:
    return json.dumps({"timestamp": "2026-01-01T00:00:00Z", "level": "info", "logger": "redrive.recovery", **record})


def test_a_json_line_becomes_an_event_with_its_facts():
    assert format_line(line(event="called", job=1, parameters='{"employeeId": "1"}', sources=["a"])).plain == (
        'called job=1 parameters={"employeeId": "1"} sources=["a"]'
    )


def test_an_error_is_coloured_and_shows_its_traceback():
    text = format_line(line(event="failed", level="error", exception="Traceback:\n  line 1"))
    assert text.plain == "failed\n    Traceback:\n      line 1"
    assert text.style == "red"


def test_other_lines_are_not_changed():
    for other in ("plain", "{not json", "[1]", '{"no": "message"}'):
        assert format_line(other).plain == other


def test_empty_lines_are_hidden():
    assert [format_line(line) for line in ("", "  ", "\t")] == [None] * 3


def test_info_lines_of_celery_about_each_message_are_hidden():
    assert format_line(line(event="Task redrive.promote[1] received", logger="celery.worker.strategy")) is None
    assert format_line(line(event="Task redrive.recover[1] raised", logger="celery.app.trace", level="error")) is not None


def test_control_characters_are_escaped():
    assert format_line("\x1b[2Jgone").plain == "\\x1b[2Jgone"
    assert format_line(line(event="a\x1b[2J\nforged", detail="\u202egnirts")).plain == "a\\x1b[2J\\nforged detail=\\u202egnirts"
