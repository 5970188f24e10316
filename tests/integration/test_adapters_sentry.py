"""Sentry against a local receiver: what is sent, what is never sent, and that no process waits for Sentry."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sentry_sdk
from celery import Celery
from celery.exceptions import Ignore, Reject, Retry
from doubles.webhook_receiver import WebhookReceiver
from waiting import TEST_TIMEOUT

from tasks.adapters.sentry import SentrySink, init
from tasks.dlq.alerts.alert import Alert, Severity
from tasks.dlq.errors import ConfigError, Retryable

CANARY = "c4n4ry-1n-a-c0alm1ne"
ROOT = Path(__file__).parents[2]


@pytest.fixture
def receiver() -> Iterator[WebhookReceiver]:
    with WebhookReceiver() as made:
        yield made


@pytest.fixture
def sink(receiver: WebhookReceiver) -> Iterator[SentrySink]:
    yield init(receiver.dsn, environment="test", release="redrive@0.1.0")
    sentry_sdk.get_client().close(timeout=0)
    sentry_sdk.get_global_scope().set_client(None)


def an_alert(**changes: Any) -> Alert:
    values: dict[str, Any] = {
        "kind": "failure_group",
        "severity": Severity.ERROR,
        "fingerprint": "group:0123456789abcdef",
        "title": "employees: 40 jobs parked, HTTP 404 (hopeless)",
        "text": "40 jobs of route employees are parked.\nLook: redrive show 17",
        "over_text": "no job is parked any more for HTTP 404 (hopeless)",
        "subject": "employees",
        "count": 40,
        "facts": {"outcome": "hopeless", "status": 404, "first_job": 17, "since": "2023-11-14 22:13 UTC"},
    }
    return Alert(**values | changes)


# --- alerts ----------------------------------------------------------------------------------------------------------


def test_an_alert_is_one_event_with_its_fingerprint_and_count(receiver: WebhookReceiver, sink: SentrySink):
    assert sink.send(an_alert())

    (event,) = receiver.events
    assert event["message"] == "employees: 40 jobs parked, HTTP 404 (hopeless)"
    assert event["fingerprint"] == ["group:0123456789abcdef"]
    assert event["level"] == "error"
    assert event["tags"] == {
        "kind": "failure_group",
        "subject": "employees",
        "outcome": "hopeless",
        "status": "404",
        "first_job": "17",
        "since": "2023-11-14 22:13 UTC",
    }
    assert event["extra"] == {"count": 40, "text": "40 jobs of route employees are parked.\nLook: redrive show 17"}
    assert (event["environment"], event["release"]) == ("test", "redrive@0.1.0")
    assert not {"server_name", "user", "request", "contexts", "breadcrumbs", "modules"} & set(event)


def test_an_alert_that_is_over_is_not_sent(receiver: WebhookReceiver, sink: SentrySink):
    assert sink.send(an_alert(over=True))
    assert sink.send(an_alert())

    assert len(receiver.events) == 1


def test_the_level_is_the_severity(receiver: WebhookReceiver, sink: SentrySink):
    sink.send(an_alert(severity=Severity.WARNING))

    assert receiver.events[0]["level"] == "warning"


# --- errors ----------------------------------------------------------------------------------------------------------


def a_task_app(error: BaseException, **options: Any) -> Any:
    app = Celery("test", broker="memory://", backend="cache+memory://", set_as_current=False)
    app.conf.task_always_eager = True

    @app.task(name="test.fails", bind=True, shared=False, **options)
    def fails(self: Any, secret: str, employee: int = 778899) -> None:
        local = {"token": secret, "employee": employee}  # noqa: F841 - it is what must not leave
        del self
        raise error

    return fails


def test_an_error_is_sent_with_its_locations_and_nothing_else(
    receiver: WebhookReceiver, sink: SentrySink, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("EMPLOYEES_API_TOKEN", CANARY)
    monkeypatch.setattr(sys, "argv", ["celery", f"--token={CANARY}"])
    sentry_sdk.set_user({"id": CANARY, "email": f"{CANARY}@company.com"})
    sentry_sdk.set_context("job", {"detail": CANARY})
    sentry_sdk.set_tag("who", CANARY)
    sentry_sdk.set_extra("body", CANARY)
    sentry_sdk.add_breadcrumb(message=CANARY)
    error = ValueError(f"PUT https://u:{CANARY}@company.com/employees/778899: Bearer {CANARY}")
    error.__cause__ = KeyError(CANARY)

    a_task_app(error).apply_async((CANARY,), headers={"x-secret": CANARY})
    assert sink.send(an_alert())

    failure, alert = sorted(receiver.events, key=lambda event: event.get("logger", ""))
    assert [each["type"] for each in failure["exception"]["values"]] == ["KeyError", "ValueError"]
    places = [frame["function"] for frame in failure["exception"]["values"][-1]["stacktrace"]["frames"]]
    assert places[-1] == "fails"
    assert set(failure["tags"]) == {"celery_task_id"}
    assert alert["tags"]["subject"] == "employees"
    sent = b"".join(post.raw for post in receiver.posts)
    for hidden in (CANARY, "778899", os.uname().nodename, str(Path.cwd())):
        assert hidden.encode() not in sent


@pytest.mark.parametrize(
    ("error", "options"),
    [
        (Retryable("due again", delay=5.0), {}),
        (Retryable("due again", delay=5.0), {"autoretry_for": (Retryable,), "max_retries": 1}),
        (Retry(), {}),
        (Ignore(), {}),
        (Reject(requeue=False), {}),
    ],
)
def test_control_flow_is_not_sent_as_an_error(
    receiver: WebhookReceiver, sink: SentrySink, error: Exception, options: dict[str, Any]
):
    a_task_app(error, **options).apply((CANARY,))
    assert sink.send(an_alert())

    assert [event.get("logger") for event in receiver.events] == ["redrive.alerts"]


# --- when Sentry fails --------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [500, 429, 413])
def test_an_alert_that_sentry_did_not_take_is_not_delivered(receiver: WebhookReceiver, sink: SentrySink, status: int):
    receiver.status = status

    assert not sink.send(an_alert())


def test_after_a_failure_the_next_try_is_delivered(receiver: WebhookReceiver, sink: SentrySink):
    receiver.status = 503
    assert not sink.send(an_alert())
    receiver.status = 200

    assert sink.send(an_alert())


def test_an_unreachable_sentry_is_a_failed_delivery():
    with WebhookReceiver() as gone:
        dsn = gone.dsn
    sink = init(dsn, environment="test", release="r")

    assert not sink.send(an_alert())
    sentry_sdk.get_global_scope().set_client(None)


@pytest.mark.usefixtures("sink")
def test_the_wait_for_a_hanging_sentry_ends_at_the_timeout(receiver: WebhookReceiver):
    receiver.open.clear()
    impatient = SentrySink(sentry_sdk.get_client(), timeout=0.2)

    assert not impatient.send(an_alert())
    assert receiver.arrived.acquire(timeout=TEST_TIMEOUT)


def test_a_hanging_sentry_does_not_keep_a_process_alive(receiver: WebhookReceiver):
    """The SDK gives up after its shutdown timeout of 2 s."""
    receiver.open.clear()
    code = (
        "import sentry_sdk\n"
        "from tasks.adapters.sentry import init\n"
        f"init({receiver.dsn!r}, environment='test', release='r')\n"
        "for n in range(500):\n"
        "    sentry_sdk.capture_exception(ValueError(n))\n"
        "print('done', flush=True)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=TEST_TIMEOUT, check=True
    )

    assert (done.stdout, done.stderr) == ("done\n", "")
    assert receiver.posts
    assert not receiver.open.is_set()


@pytest.mark.parametrize(
    "dsn", ["nonsense", "http://127.0.0.1/1", f"{CANARY}://x", f"https://{CANARY}@h:port/1", f"https://[{CANARY}/1"]
)
def test_a_refused_dsn_is_not_shown(dsn: str):
    with pytest.raises(ConfigError) as refused:
        init(dsn, environment="test", release="r")

    assert "Sentry DSN" in refused.value.message
    assert CANARY not in refused.value.message
