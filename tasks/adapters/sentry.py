"""Sentry: alerts as events of their own, and errors of the code itself. What leaves the process is chosen by a list of what may.

An error goes out with its type and the places of its stack, without its message and local variables, which can hold anything; the
message is in the logs.
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
    from collections.abc import Callable, Mapping

    from sentry_sdk.client import BaseClient
    from sentry_sdk.types import Event, Hint

    from tasks.dlq.alerts.alert import Alert

_LOGGER = "redrive.alerts"
_EVENT = ("event_id", "timestamp", "level", "platform", "release", "environment", "logger", "fingerprint", "transaction", "sdk")
_ALERT = ("message", "tags", "extra")
_TAGS = ("celery_task_id",)
_FRAME = ("filename", "function", "module", "lineno", "in_app")
_LEVELS = {"failure_group": "error", "burst": "warning", "route_paused": "error", "breaker_open": "error"}


def init(dsn: str, *, environment: str, release: str) -> SentrySink:
    """Start Sentry in this process: unhandled errors of Celery tasks and of the main thread, and the sink for alerts.

    Beat's schedule is not monitored: Sentry Crons knows whole minutes only. Nothing is captured from logs, traces or sessions.

    Raises:
        ConfigError: the DSN is none.
    """
    drops = _Drops()
    try:
        sentry_sdk.init(
            dsn=dsn,
            environment=environment,
            release=release,
            transport=_transport(drops.note),
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
            # What is never gathered cannot slip through.
            server_name="",
            max_breadcrumbs=0,
            include_local_variables=False,
            include_source_context=False,
            max_request_body_size="never",
            auto_session_tracking=False,
            send_client_reports=False,
            enable_backpressure_handling=False,
            enable_metrics=False,
            spotlight=False,
            shutdown_timeout=2,
        )
    except ValueError:  # BadDsn and what urlsplit raises; either may quote the key
        raise ConfigError("the Sentry DSN cannot be read", hint="https://KEY@HOST/PROJECT, as Sentry shows it") from None
    return SentrySink(sentry_sdk.get_client(), drops)


class SentrySink:
    """Sends each alert that begins as one event; its end is no event (a Sentry issue is resolved in Sentry)."""

    name = "sentry"

    def __init__(self, client: BaseClient, drops: _Drops, *, patience: float = 5.0) -> None:
        self._client = client
        self._drops = drops
        self._patience = patience

    def send(self, alert: Alert) -> bool:
        """Send the event and wait up to `patience` seconds for Sentry's answer. True when it was taken or needs no sending."""
        if alert.over or not self._client.is_active():
            return True
        dropped, began = self._drops.count, time.monotonic()
        self._client.capture_event(_event(alert))
        self._client.flush(timeout=self._patience)
        return self._drops.count == dropped and time.monotonic() - began < self._patience


def _event(alert: Alert) -> Event:
    tags = {"route": alert.route, "kind": alert.kind}
    tags |= {name: str(alert.facts[name]) for name in ("outcome", "status") if name in alert.facts}
    event = {
        "message": alert.title,
        "level": _LEVELS.get(alert.kind, "error"),
        "logger": _LOGGER,
        "fingerprint": [alert.fingerprint],
        "tags": tags,
        "extra": {"count": alert.count, "text": alert.text, **alert.facts},
    }
    return cast("Event", event)


def _pick(event: Event, _hint: Hint) -> Event | None:
    """Return a new event of what may leave: names, places and our own words."""
    given = cast("Mapping[str, Any]", event)
    if given.get("logger") == _LOGGER:
        return cast("Event", _only(given, (*_EVENT, *_ALERT)))
    picked = _only(given, _EVENT)
    picked["tags"] = _only(given.get("tags") or {}, _TAGS)
    errors = (given.get("exception") or {}).get("values") or []
    picked["exception"] = {"values": [_error(error) for error in errors]}
    return cast("Event", picked)


def _error(error: Mapping[str, Any]) -> dict[str, Any]:
    frames = (error.get("stacktrace") or {}).get("frames") or []
    return _only(error, ("type", "module", "mechanism")) | {"stacktrace": {"frames": [_only(frame, _FRAME) for frame in frames]}}


def _only(given: Mapping[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: given[name] for name in names if name in given}


class _Drops:
    """Counts the events that did not reach Sentry: the SDK reports them to nobody else."""

    def __init__(self) -> None:
        self.count = 0

    def note(self) -> None:
        self.count += 1


def _transport(on_drop: Callable[[], None]) -> type[HttpTransport]:
    class Transport(HttpTransport):
        """The SDK's background thread and bounded queue, with a shorter patience."""

        TIMEOUT = 5

        def on_dropped_event(self, _reason: str) -> None:
            on_drop()

    return Transport
