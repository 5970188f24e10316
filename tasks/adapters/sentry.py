"""Sentry: alerts as events, and unhandled errors of the code. Only the fields listed here leave the process.

An error is sent with its type and the locations of its stack. Its message and local variables can hold anything, so they are not
sent; the message is in the log.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, cast

import sentry_sdk
from sentry_sdk.integrations.atexit import AtexitIntegration
from sentry_sdk.integrations.celery import CeleryIntegration
from sentry_sdk.integrations.dedupe import DedupeIntegration
from sentry_sdk.integrations.excepthook import ExcepthookIntegration
from sentry_sdk.transport import HttpTransport

from tasks.dlq.errors import ConfigError, Retryable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sentry_sdk.client import BaseClient
    from sentry_sdk.types import Event, Hint

    from tasks.dlq.alerts.alert import Alert

_LOGGER = "redrive.alerts"
_EVENT = ("event_id", "timestamp", "level", "platform", "release", "environment", "logger", "fingerprint", "transaction", "sdk")
_ALERT = (*_EVENT, "message", "tags", "extra")
_TAGS = ("celery_task_id",)
_FRAME = ("filename", "function", "module", "lineno", "in_app")


def init(dsn: str, *, environment: str, release: str) -> SentrySink:
    """Start Sentry in this process: reports of unhandled errors, and the sink for alerts.

    Beat's schedule is not monitored, because Sentry Crons accepts whole minutes only.

    Raises:
        ConfigError: the DSN is not valid.
    """
    try:
        sentry_sdk.init(
            dsn=dsn,
            environment=environment,
            release=release,
            transport=_Transport,
            default_integrations=False,
            auto_enabling_integrations=False,
            integrations=[
                CeleryIntegration(propagate_traces=False, monitor_beat_tasks=False),
                ExcepthookIntegration(),
                DedupeIntegration(),
                AtexitIntegration(callback=lambda _pending, _timeout: None),
            ],
            ignore_errors=[Retryable],
            before_send=_pick,
            include_local_variables=False,
            auto_session_tracking=False,
            send_client_reports=False,
            shutdown_timeout=2,
        )
    except ValueError:  # BadDsn, or an error of urlsplit; both may quote the key
        raise ConfigError("the Sentry DSN is not valid", hint="https://KEY@HOST/PROJECT, as Sentry shows it") from None
    return SentrySink(sentry_sdk.get_client())


class SentrySink:
    """Sends each alert that begins as one event. The end of an alert is not sent: people resolve the issue in Sentry."""

    name = "sentry"

    def __init__(self, client: BaseClient, *, timeout: float = 5.0) -> None:
        self._client = client
        self._transport = cast("_Transport", client.transport)
        self._timeout = timeout

    def send(self, alert: Alert) -> bool:
        if alert.over or not self._client.is_active():
            return True
        drops, deadline = self._transport.drops, time.monotonic() + self._timeout
        self._client.capture_event(_event(alert))
        self._client.flush(timeout=self._timeout)
        return self._transport.drops == drops and time.monotonic() < deadline


class _Transport(HttpTransport):
    """Counts the events that did not reach Sentry. The SDK does not report them in any other way."""

    TIMEOUT = 5
    drops = 0

    def on_dropped_event(self, _reason: str) -> None:
        self.drops += 1


def _event(alert: Alert) -> Event:
    return {
        "message": alert.title,
        "level": alert.severity.value,
        "logger": _LOGGER,
        "fingerprint": [alert.fingerprint],
        "tags": {"kind": alert.kind, "subject": alert.subject} | {name: str(value) for name, value in alert.facts.items()},
        "extra": {"count": alert.count, "text": alert.text},
    }


def _pick(event: Event, _hint: Hint) -> Event:
    """Return a new event with the listed fields of an alert or an error."""
    given = cast("Mapping[str, Any]", event)
    if given.get("logger") == _LOGGER:
        return cast("Event", _only(given, _ALERT))
    errors = (given.get("exception") or {}).get("values") or []
    picked = {"tags": _only(given.get("tags") or {}, _TAGS), "exception": {"values": [_error(error) for error in errors]}}
    return cast("Event", _only(given, _EVENT) | picked)


def _error(error: Mapping[str, Any]) -> dict[str, Any]:
    frames = (error.get("stacktrace") or {}).get("frames") or []
    return _only(error, ("type", "module", "mechanism")) | {"stacktrace": {"frames": [_only(frame, _FRAME) for frame in frames]}}


def _only(given: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: given[name] for name in names if name in given}
