"""Apprise against a local receiver (json://). Slack's plugin has a fixed host: its request is checked before it is sent."""

import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import requests
import structlog
from doubles.webhook_receiver import WebhookReceiver
from waiting import TEST_TIMEOUT

from tasks.adapters.notify import AppriseSink, apprise_sinks
from tasks.dlq.alerts.alert import Alert, Severity
from tasks.dlq.alerts.delivery import TimeLimitedSink
from tasks.dlq.errors import ConfigError

TOKEN = "c4n4ry1naC0alm1ne"
SLACK = f"slack://T1JJ3T3L2/A1BRTD4JD/{TOKEN}xxxxxxx"


@pytest.fixture
def receiver() -> Iterator[WebhookReceiver]:
    with WebhookReceiver() as made:
        yield made


@pytest.fixture(autouse=True)
def _everything_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    structlog.reset_defaults()


def an_alert(**changes: Any) -> Alert:
    values: dict[str, Any] = {
        "kind": "burst",
        "severity": Severity.WARNING,
        "fingerprint": "burst:employees",
        "title": "employees: 21 failed calls within 300 s",
        "text": "21 calls of route employees failed within 300 seconds.\nLook: redrive jobs --state retryable --route employees",
        "over_text": "calls no longer fail in a burst",
        "subject": "employees",
        "count": 21,
    }
    return Alert(**values | changes)


def hook(receiver: WebhookReceiver) -> str:
    return f"json://user:{TOKEN}@{receiver.address}/"


def the_sink(url: str) -> AppriseSink:
    (sink,) = apprise_sinks(url, origin="REDRIVE_NOTIFY")
    return sink


def test_an_alert_arrives_as_it_was_written(receiver: WebhookReceiver):
    assert the_sink(hook(receiver)).send(an_alert())

    (message,) = receiver.notifications
    assert message["title"] == "Redrive · employees: 21 failed calls within 300 s"
    assert message["message"] == an_alert().text
    assert message["type"] == "warning"


@pytest.mark.parametrize(
    ("changes", "shown"),
    [({}, "warning"), ({"severity": Severity.ERROR}, "failure"), ({"over": True}, "success")],
)
def test_the_type_follows_the_severity(receiver: WebhookReceiver, changes: dict[str, Any], shown: str):
    the_sink(hook(receiver)).send(an_alert(**changes))

    assert receiver.notifications[0]["type"] == shown


def test_slack_gets_the_title_and_the_escaped_text(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture):
    calls: list[tuple[str, str, dict[str, Any], Any]] = []

    def post(method: str, url: str, *, data: str, timeout: Any, **_: Any) -> requests.Response:
        calls.append((method, url, json.loads(data), timeout))
        response = requests.Response()
        response.status_code, response._content = 200, b"ok"
        return response

    monkeypatch.setattr(requests, "request", post)
    assert the_sink(SLACK).send(an_alert(text="21 calls failed & more <now>.\nLook: redrive jobs --route employees"))

    ((method, url, payload, timeout),) = calls
    assert (method, url) == ("post", f"https://hooks.slack.com/services/T1JJ3T3L2/A1BRTD4JD/{TOKEN}xxxxxxx")
    (attachment,) = payload["attachments"]
    assert attachment["title"] == "Redrive · employees: 21 failed calls within 300 s"
    assert attachment["text"] == "21 calls failed &amp; more &lt;now&gt;.\nLook: redrive jobs --route employees"
    assert timeout == (4.0, 4.0)
    assert TOKEN not in caplog.text, "Apprise's own DEBUG lines hold the whole URL"


@pytest.mark.parametrize("status", [400, 403, 500, 503])
def test_an_error_status_is_a_failed_delivery(receiver: WebhookReceiver, caplog: pytest.LogCaptureFixture, status: int):
    receiver.status = status

    assert not the_sink(hook(receiver)).send(an_alert())
    assert TOKEN not in caplog.text


def test_an_unreachable_service_is_a_failed_delivery(caplog: pytest.LogCaptureFixture):
    with WebhookReceiver() as gone:
        url = hook(gone)

    assert not the_sink(url).send(an_alert())
    assert TOKEN not in caplog.text


def test_a_service_that_answers_byte_by_byte_is_left_after_the_total_timeout(receiver: WebhookReceiver):
    """Each byte comes within the read timeout of Apprise."""
    receiver.drips = True
    receiver.open.clear()
    sink = TimeLimitedSink(the_sink(hook(receiver)), timeout=0.2)
    assert not sink.send(an_alert())
    assert receiver.arrived.acquire(timeout=TEST_TIMEOUT)

    assert not sink.send(an_alert())
    assert len(receiver.notifications) == 1


def test_each_url_is_one_sink(receiver: WebhookReceiver):
    sinks = apprise_sinks(f"{SLACK}, {hook(receiver)}\njson://127.0.0.1:1/", origin="REDRIVE_NOTIFY")

    assert [sink.name for sink in sinks] == ["slack-1", "json-2", "json-3"]
    assert sinks[1].send(an_alert())
    assert apprise_sinks("", origin="REDRIVE_NOTIFY") == ()


def test_a_sink_does_not_show_its_url():
    assert TOKEN not in repr(the_sink(SLACK))


@pytest.mark.parametrize(
    ("urls", "shown"),
    [
        (f"slack://{TOKEN}", "URL 1 (slack://…)"),
        (f"nosuchservice://{TOKEN}/", "URL 1 (nosuchservice://…)"),
        (f"{SLACK} nosuchservice://{TOKEN}/", "URL 2 (nosuchservice://…)"),
        (TOKEN, "URL 1 (no URL)"),
    ],
)
def test_a_refused_url_is_shown_by_its_scheme_only(urls: str, shown: str, caplog: pytest.LogCaptureFixture):
    with pytest.raises(ConfigError) as refused:
        apprise_sinks(urls, origin="REDRIVE_NOTIFY")

    assert refused.value.message == f"REDRIVE_NOTIFY: Apprise does not accept notification {shown}"
    assert TOKEN not in refused.value.hint + caplog.text
