"""Logging: one line per event, no value can forge a line or steer a terminal, and no secret appears."""

import io
import json
import logging
import re
import warnings
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import structlog
from botocore.exceptions import EndpointConnectionError
from celery.app.trace import LOG_RETRY, LOG_SUCCESS
from celery.beat import SchedulingError
from kombu.exceptions import OperationalError

from tasks.adapters.logs import configure
from tasks.dlq.errors import LedgerUnavailable
from tasks.worker import lifecycle


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    root, shown = logging.getLogger(), warnings.showwarning
    handlers, level = root.handlers[:], root.level
    levels = {name: logging.getLogger(name).level for name in list(root.manager.loggerDict)}
    yield
    root.handlers[:], root.level = handlers, level
    root.setLevel(level)
    logging.captureWarnings(capture=False)
    warnings.showwarning = shown
    for name in list(root.manager.loggerDict):
        logging.getLogger(name).setLevel(levels.get(name, logging.NOTSET))
    structlog.reset_defaults()


@pytest.fixture
def stream() -> io.StringIO:
    return io.StringIO()


def lines(stream: io.StringIO) -> list[str]:
    return stream.getvalue().splitlines()


def objects(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines(stream)]


def fail(message: str) -> None:
    raise ValueError(message)


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_all_loggers_use_one_format(stream: io.StringIO):
    configure("info", json=True, stream=stream)
    logging.getLogger("celery.worker").info("Task %s received", "redrive.recover")
    structlog.get_logger("tasks.recovery").info("Task redrive.recover received", job=17)

    standard, structured = objects(stream)
    assert standard["event"] == structured["event"] == "Task redrive.recover received"
    assert (standard["logger"], structured["logger"]) == ("celery.worker", "tasks.recovery")
    assert (standard["level"], structured["level"]) == ("info", "info")
    assert structured["job"] == 17
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z", standard["timestamp"])


def test_logfmt_on_a_terminal_and_json_elsewhere(stream: io.StringIO):
    terminal = Terminal()
    configure(stream=terminal)
    structlog.get_logger("tasks").info("job parked", job=17, route="employees", detail="HTTP 404 not found", note="")
    configure(stream=stream)
    structlog.get_logger("tasks").info("job parked", job=17)

    (line,) = lines(terminal)
    facts = 'level=info logger=tasks event="job parked" job=17 route=employees detail="HTTP 404 not found" note='
    assert re.fullmatch(rf"timestamp=\S+Z {facts}", line), line
    assert objects(stream)[0]["job"] == 17


def test_json_can_be_chosen_on_a_terminal():
    terminal = Terminal()
    configure(json=True, stream=terminal)
    logging.getLogger("tasks").warning("hello")

    assert json.loads(terminal.getvalue())["event"] == "hello"


@pytest.mark.parametrize("as_json", [True, False])
@pytest.mark.parametrize(
    "hostile",
    [
        "one\ntwo",
        "one\r\ntwo",
        "\x1b[2J\x1b[31mred",
        "\x9b31m",
        "bell\a nul\0 del\x7f",
        "line\u2028para\u2029",
        "rtl\u202egnp",
        "\ud800",
    ],
)
def test_no_value_forges_a_line_or_steers_a_terminal(stream: io.StringIO, hostile: str, *, as_json: bool):
    configure(json=as_json, stream=stream)
    logging.getLogger("tasks").warning("from outside: %s", hostile)
    structlog.get_logger("tasks").warning(hostile, detail=hostile, deep={"list": [hostile]}, **{hostile: 1})

    written = stream.getvalue()
    assert written.count("\n") == 2
    assert all(char.isprintable() for char in written.replace("\n", ""))


@pytest.mark.parametrize("as_json", [True, False])
def test_a_traceback_is_one_line(stream: io.StringIO, *, as_json: bool):
    configure(json=as_json, stream=stream)
    try:
        fail("first\nsecond")
    except ValueError:
        logging.getLogger("tasks").exception("it broke")
        structlog.get_logger("tasks").exception("it broke")

    standard, structured = lines(stream)
    assert "ValueError: first" in standard
    assert "ValueError: first" in structured


@pytest.mark.parametrize("as_json", [True, False])
def test_known_secrets_never_appear(stream: io.StringIO, *, as_json: bool):
    configure(json=as_json, stream=stream, secrets=["t0p53cret", "", "abc"])
    logging.getLogger("tasks").warning("sent %s", {"x": "t0p53cret"})
    structlog.get_logger("tasks").warning("t0p53cret", deep=[{"a": ("t0p53cret",)}])
    try:
        fail("t0p53cret")
    except ValueError:
        logging.getLogger("tasks").exception("it broke")
    logging.getLogger("tasks").warning("abc and the empty text are too short to be looked for")

    assert "t0p53cret" not in stream.getvalue()
    assert "abc" in stream.getvalue()


def test_each_secret_of_a_list_is_masked(stream: io.StringIO):
    configure(json=True, stream=stream, secrets=["slack://a/b/c4n4ry1, json://c4n4ry2\nmailto://c4n4ry3"])
    logging.getLogger("tasks").warning("one: json://c4n4ry2 another: mailto://c4n4ry3 first: slack://a/b/c4n4ry1")

    assert objects(stream)[0]["event"] == "one: *** another: *** first: ***"


@pytest.mark.parametrize(
    ("written", "kept"),
    [
        ("calling with Bearer eyJhbGciOi.abc-def", "Bearer ***"),
        ("Authorization: Basic dXNlcjpwYXNz", "Basic ***"),
        ("connected to sqs://AKIAXYZ:wJalrXUtn@localhost:4100", "sqs://***@localhost:4100"),
        ("postgresql+psycopg://redrive:hunter22@db/redrive", "postgresql+psycopg://***@db/redrive"),
    ],
)
def test_text_that_looks_like_credentials_is_masked(stream: io.StringIO, written: str, kept: str):
    configure(json=True, stream=stream)
    logging.getLogger("tasks").warning(written)

    assert kept in stream.getvalue()
    assert not re.search("eyJhb|dXNlc|wJalr|hunter22", stream.getvalue())


def test_values_with_the_name_of_a_secret_are_masked(stream: io.StringIO):
    configure(json=True, stream=stream)
    secrets = {"password": "a1", "api_key": "a2", "sentry_dsn": "a3", "pwd": "a4", "signature": "a5", "jwt": "a6"}
    structlog.get_logger("tasks").info("x", **secrets, headers={"Authorization": "a7", "Set-Cookie": "a8"}, job=17)

    assert not re.search('"a[1-8]"', stream.getvalue())
    assert objects(stream)[0]["job"] == 17


def test_a_second_call_replaces_the_first(stream: io.StringIO):
    configure(json=True, stream=io.StringIO())
    logger = structlog.get_logger("tasks")
    logger.info("to the first")
    configure("error", json=True, stream=stream)
    logger.info("below")
    logger.error("above")

    assert [each["event"] for each in objects(stream)] == ["above"]


@pytest.mark.parametrize("library", ["urllib3.connectionpool", "botocore.endpoint", "apprise", "kombu.transport"])
def test_libraries_that_log_whole_requests_stay_at_warning(stream: io.StringIO, library: str):
    configure("debug", json=True, stream=stream)
    logging.getLogger(library).debug("POST /services/T/B/token")
    logging.getLogger(library).warning("gave up")
    logging.getLogger("tasks").debug("seen")

    assert [each["event"] for each in objects(stream)] == ["gave up", "seen"]


def test_context_is_added(stream: io.StringIO):
    configure(json=True, stream=stream)
    with structlog.contextvars.bound_contextvars(job=17):
        logging.getLogger("tasks").info("x")

    assert objects(stream)[0]["job"] == 17


def test_a_warning_of_many_lines_is_one(stream: io.StringIO):
    configure(json=True, stream=stream)
    warning = warnings.formatwarning("You are root:\nthis is bad!\n\nBe another.\n", UserWarning, "w.py", 113, "  warnings.warn(")
    logging.getLogger("py.warnings").warning("%s", warning)
    assert objects(stream)[0]["event"] == "w.py:113: UserWarning: You are root: this is bad! Be another."


def test_warnings_are_log_lines(stream: io.StringIO):
    configure(json=True, stream=stream)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=False)
        logging.captureWarnings(capture=True)  # catch_warnings put its own in place
        warnings.warn("old", DeprecationWarning, stacklevel=1)

    assert objects(stream)[0]["logger"] == "py.warnings"
    assert len(lines(stream)) == 1


# --- an outage is no fault -------------------------------------------------------------------------------------------

SECRET = "c4n4ry-1n-4-c0alm1ne"
AWAY = EndpointConnectionError(endpoint_url=f"https://key:{SECRET}@sqs")


def report(logger: str, message: str, error: BaseException, *, context: BaseException | None = None) -> None:
    """Log an error as a library does, from where it was caught."""
    try:
        try:
            if context:
                raise context
        finally:
            raise error
    except type(error):
        logging.getLogger(logger).critical(message, exc_info=True)


@pytest.mark.parametrize("as_json", [True, False])
@pytest.mark.parametrize(
    ("logger", "message", "error", "shown"),
    [
        ("celery.worker.request", "Couldn't ack 7", AWAY, "EndpointConnectionError: Could not connect to the endpoint URL"),
        ("kombu.common", "Connection error. Retry in 2s\n", OperationalError("no broker"), "OperationalError: no broker"),
        ("celery.worker", "Timer error", ConnectionResetError(104, "reset\nby peer"), "ConnectionResetError: [Errno 104] reset"),
        ("celery.app.trace", "Task redrive.rescue[7] failed", LedgerUnavailable("disk full"), "LedgerUnavailable: disk full"),
    ],
)
def test_an_outage_is_one_line_with_the_errors_type_and_message(
    stream: io.StringIO, logger: str, message: str, error: Exception, shown: str, *, as_json: bool
):
    configure("info", json=as_json, stream=stream, secrets=[SECRET])
    report(logger, message, error)

    (line,) = lines(stream)
    assert shown in line
    assert message.strip() in line
    assert "Traceback" not in line
    assert "test_adapters_logs" not in line
    assert SECRET not in line


def test_a_failed_sweep_of_beat_is_logged_without_its_stack(stream: io.StringIO):
    configure("warning", json=True, stream=stream)
    message = "Message Error: Couldn't apply scheduled task watch: no broker\n['  File \"/app/beat.py\", line 1']"
    report("celery.beat", message, SchedulingError("Couldn't apply scheduled task watch"), context=AWAY)

    (told,) = objects(stream)
    assert told["event"] == "Message Error: Couldn't apply scheduled task watch: no broker"
    assert told["error"].startswith("EndpointConnectionError")
    assert "exception" not in told


def test_a_fault_keeps_its_traceback_in_one_line(stream: io.StringIO):
    configure("warning", json=True, stream=stream)
    report("celery.app.trace", "Task redrive.watch[7] raised unexpected", KeyError("a fault"))
    report("celery.app.trace", "Task redrive.watch[7] raised unexpected", ConnectionResetError("that nobody foresaw"))
    report("celery.worker", "Unrecoverable error", ValueError("a fault"))
    report("redrive.intake", "this is a fault in Redrive", ConnectionResetError("that nobody foresaw"))

    assert len(lines(stream)) == 4
    assert all("test_adapters_logs.py" in each["exception"] for each in objects(stream))


def test_a_circular_chain_of_errors_is_followed_once(stream: io.StringIO):
    error = ValueError("first")
    error.__context__ = KeyError("second")
    error.__context__.__context__ = error
    configure(stream=stream, json=True)
    logging.getLogger("celery.utils.dispatch.signal").error("a handler failed", exc_info=error)
    assert "first" in objects(stream)[0]["exception"]


def test_at_debug_an_outage_has_its_traceback(stream: io.StringIO):
    configure("debug", json=True, stream=stream, secrets=[SECRET])
    report("celery.worker.request", "Couldn't ack 7", AWAY)

    (told,) = objects(stream)
    assert "test_adapters_logs.py" in told["exception"]
    assert SECRET not in stream.getvalue()


# --- what is said at which level ---------------------------------------------------------------------------------------


def a_day() -> None:
    """Log what a worker and a beat do on an ordinary day."""
    logging.getLogger("celery.apps.worker").info("%s ready.", "w@host")
    logging.getLogger("celery.beat").info("beat: Starting...")
    logging.getLogger("celery.beat").info("Scheduler: Sending due task %s (%s)", "promote", "redrive.promote")
    logging.getLogger("celery.worker.strategy").info("Task %s received", "redrive.promote")
    for task, did in (("promote", 0), ("rescue", 3), ("watch", None), ("prune", {"letters": 0, "jobs": 20})):
        finished = {"name": f"redrive.{task}", "id": "7", "runtime": 0.1, "return_value": repr(did)}
        logging.getLogger("celery.app.trace").info(LOG_SUCCESS, finished)
    logging.getLogger("celery.app.trace").info(LOG_RETRY, {"name": "redrive.recover", "id": "7", "exc": "Retry in 5s"})
    structlog.get_logger("redrive.recovery").info("called", job=17, state="parked")
    structlog.get_logger("redrive.monitoring").info("redis_restored")
    logging.getLogger("botocore").info("Found credentials")
    logging.getLogger("celery.worker").warning("consumer: Connection to broker lost")


NEWS = [
    "w@host ready.",
    "beat: Starting...",
    "Task redrive.rescue[7] succeeded in 0.1s: 3",
    "Task redrive.prune[7] succeeded in 0.1s: {'letters': 0, 'jobs': 20}",
    "Task redrive.recover[7] retry: Retry in 5s",
    "called",
    "redis_restored",
    "consumer: Connection to broker lost",
]


def test_at_warning_the_news_are_logged(stream: io.StringIO):
    configure("warning", json=True, stream=stream)
    a_day()

    assert [each["event"] for each in objects(stream)] == NEWS


def test_at_info_each_task_has_lines_and_beat_needs_debug(stream: io.StringIO):
    configure("info", json=True, stream=stream)
    a_day()
    said = [each["event"] for each in objects(stream)]
    assert [event for event in said if event not in NEWS] == [
        "Task redrive.promote received",
        "Task redrive.promote[7] succeeded in 0.1s: 0",
        "Task redrive.watch[7] succeeded in 0.1s: None",
    ]
    configure("debug", json=True, stream=stream)
    a_day()
    assert "Scheduler: Sending due task promote (redrive.promote)" in stream.getvalue()


def test_a_second_set_up_keeps_the_level(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(lifecycle, "settings", lambda: SimpleNamespace(secrets=tuple))
    lifecycle.set_up_logging(loglevel=logging.ERROR)
    lifecycle.set_up_logging()

    assert logging.getLogger().level == logging.ERROR


def test_at_error_only_errors_are_logged(stream: io.StringIO):
    configure("error", json=True, stream=stream)
    a_day()

    assert lines(stream) == []


def test_an_unknown_level_is_refused():
    with pytest.raises(ValueError, match="no log level 'loud': use DEBUG, INFO, WARNING or ERROR"):
        configure("loud")
