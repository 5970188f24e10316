"""Which of Celery's commands use the side channel, and how."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import click
import pytest
from celery import Celery
from kombu.exceptions import OperationalError

from tasks.monitoring import attach, flower_command
from tasks.monitoring.channel import require_certificate
from tasks.monitoring.flower import side_channel_option


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give back afterwards what redirecting a command changes."""
    for name in ("CELERY_BROKER_URL", "CELERY_BROKER_READ_URL", "CELERY_BROKER_WRITE_URL", "FLOWER_ADDRESS"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)


def run_option(app: Celery, command: str, url: str, *, broker: str | None = None) -> None:
    root = click.Context(click.Group("celery"), obj=SimpleNamespace(app=app))
    root.params["broker"] = broker
    context = click.Context(click.Command(command), parent=root)
    option = side_channel_option(url)
    option.callback(context, option, None)


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize("command", ["flower", "inspect", "control", "status", "events"])
def test_commands_that_inspect_go_to_redis_and_send_no_task(command: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CELERY_BROKER_URL", "sqs://")
    app = Celery("redrive", broker="sqs://", set_as_current=False)
    run_option(app, command, "redis://127.0.0.1:1/3")
    assert app.connection_for_read().as_uri() == app.connection_for_write().as_uri() == "redis://:**@127.0.0.1:1/3"
    with pytest.raises(OperationalError, match="carries no tasks"):
        app.send_task("redrive.submit", ("employees", {"employeeId": 1234}))


@pytest.mark.usefixtures("environment")
@pytest.mark.parametrize(("command", "broker"), [("worker", None), ("beat", None), ("call", None), ("flower", "redis://other")])
def test_other_commands_and_an_explicit_broker_are_left_alone(command: str, broker: str | None):
    app = Celery("redrive", broker="sqs://", set_as_current=False)
    run_option(app, command, "redis://127.0.0.1:1/3", broker=broker)
    assert app.conf.broker_url == "sqs://"


def test_without_a_side_channel_a_command_says_what_is_missing():
    with pytest.raises(click.UsageError, match="REDRIVE_MONITOR__URL"):
        run_option(Celery("redrive", broker="sqs://", set_as_current=False), "flower", "")


def test_without_a_side_channel_a_worker_is_celerys_own():
    app = Celery("redrive", broker="memory://", set_as_current=False)
    attach(app, "")
    assert not app.steps["consumer"]
    assert app.events.Dispatcher.__mro__[1].__module__ == "celery.events.dispatcher"


def test_attaching_opens_nothing():
    before = threading.active_count()
    attach(Celery("redrive", broker="memory://", set_as_current=False), "redis://127.0.0.1:1/0")
    assert threading.active_count() == before


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://h:1/0", "redis://h:1/0"),
        ("rediss://h:1/0", "rediss://h:1/0?ssl_cert_reqs=required"),
        ("rediss://h:1/0?client_name=a", "rediss://h:1/0?client_name=a&ssl_cert_reqs=required"),
        ("rediss://h:1/0?ssl_cert_reqs=none", "rediss://h:1/0?ssl_cert_reqs=none"),
    ],
)
def test_tls_is_verified_unless_the_url_says_otherwise(url: str, expected: str):
    assert require_certificate(url) == expected


def test_flower_listens_on_loopback_only():
    assert flower_command(5555)[-2:] == ["--address=127.0.0.1", "--port=5555"]
