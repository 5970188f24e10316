"""The kinds of alert, and the example of CONTRIBUTING.md: a new kind is one class, and every sink delivers it."""

from __future__ import annotations

import io
import json
from contextlib import ExitStack, closing
from typing import TYPE_CHECKING

import pytest
import sentry_sdk
from contributing import run_example
from doubles.manual_clock import ManualClock
from doubles.webhook_receiver import WebhookReceiver
from sqlalchemy import func, select

from tasks.adapters import logs, sentry
from tasks.adapters.notify import apprise_sinks
from tasks.dlq.alerts.alert import Severity
from tasks.dlq.alerts.delivery import deliver
from tasks.dlq.alerts.kinds import AlertKind, alert_kinds
from tasks.dlq.alerts.state import update_alerts
from tasks.dlq.ledger import Ledger
from tasks.dlq.ledger.schema import alerts, dead_letters, metadata

if TYPE_CHECKING:
    from pathlib import Path

_NAMES = {"AlertKind": AlertKind, "Severity": Severity, "dead_letters": dead_letters, "func": func, "select": select}
#: The class of CONTRIBUTING.md.
RejectedLetters: type[AlertKind] = run_example("Add an alert", _NAMES)["RejectedLetters"]


def test_a_new_kind_is_delivered_by_every_sink_when_it_begins_and_when_it_is_over(tmp_path: Path):
    log = io.StringIO()
    with ExitStack() as stack:
        receiver = stack.enter_context(WebhookReceiver())
        ledger = stack.enter_context(closing(Ledger(f"sqlite:///{tmp_path}/ledger.db", clock=ManualClock())))
        metadata.create_all(ledger.engine)
        logs.configure(json=True, stream=log)
        sinks = [
            logs.LogSink(),
            sentry.init(receiver.dsn, environment="test", release="redrive@0.1.0"),
            *apprise_sinks(f"json://{receiver.address}/", origin="REDRIVE_NOTIFY"),
        ]
        stack.callback(sentry_sdk.get_global_scope().set_client, None)
        kinds = [*alert_kinds(), RejectedLetters()]

        reject_letters(ledger, count=3)
        update_alerts(ledger, kinds)
        deliver(ledger, sinks)
        with ledger.begin() as tx:
            tx.connection.execute(dead_letters.delete())
        update_alerts(ledger, kinds)
        deliver(ledger, sinks)

    lines = [json.loads(line) for line in log.getvalue().splitlines()]
    assert [(line["event"], line["kind"], line["title"]) for line in lines] == [
        ("alert_begun", "rejected_letters", "queue: 3 dead letters rejected"),
        ("alert_ended", "rejected_letters", "queue: over: no dead letter is rejected any more"),
    ]
    assert [(event["message"], event["level"], event["tags"]["kind"]) for event in receiver.events] == [
        ("queue: 3 dead letters rejected", "warning", "rejected_letters")
    ]
    assert [(message["title"], message["type"]) for message in receiver.notifications] == [
        ("Redrive · queue: 3 dead letters rejected", "warning"),
        ("Redrive · queue: over: no dead letter is rejected any more", "success"),
    ]


def reject_letters(ledger: Ledger, *, count: int) -> None:
    letter = {"source": "queue", "origin": "{}", "body": b"", "received_at": 0, "reject_reason": "not-json"}
    with ledger.begin() as tx:
        tx.connection.execute(dead_letters.insert(), [{**letter, "identity": str(n)} for n in range(count)])


def test_the_names_of_the_kinds_do_not_change():
    """The ledger, exports and Sentry hold them."""
    assert [kind.name for kind in alert_kinds()] == ["failure_group", "burst", "route_paused", "breaker_open"]


@pytest.mark.parametrize("kind", alert_kinds(), ids=lambda kind: kind.name)
def test_a_kind_fits_its_column(kind: AlertKind):
    assert len(kind.name) <= alerts.c.kind.type.length
