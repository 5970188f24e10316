"""Real processes deliver alerts: Sentry and a notification service get each group and each burst once, and its end."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from doubles.webhook_receiver import WebhookReceiver
from stack import stack
from waiting import TEST_TIMEOUT, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from doubles.company_api import CompanyApi

    from tasks.devstack.sqs import EmbeddedSqs

CANARY = "canary-token-5f3a"


@pytest.fixture
def receiver() -> Iterator[WebhookReceiver]:
    with WebhookReceiver() as made:
        yield made


def alerts(receiver: WebhookReceiver) -> list[dict[str, Any]]:
    return [event for event in receiver.events if event.get("logger") == "redrive.alerts"]


def titles(receiver: WebhookReceiver) -> list[str]:
    return [message["title"] for message in receiver.notifications]


def test_a_group_and_a_burst_are_delivered_once_and_both_end(
    tmp_path: Path, sqs: EmbeddedSqs, company_api: CompanyApi, receiver: WebhookReceiver
):
    more = '[alerts]\nburst = { failures = 3, within = "1h" }\n'
    with stack(tmp_path, sqs, company_api, more=more) as system:
        config = (tmp_path / "redrive.toml").read_text()
        (tmp_path / "redrive.toml").write_text(config.replace("delay =", 'bearer_env = "API_TOKEN"\ndelay =', 1))
        system.env |= {
            "SENTRY_DSN": receiver.dsn,
            "REDRIVE_NOTIFY": f"json://user:{CANARY}@{receiver.address}/hook",
            "API_TOKEN": CANARY,
        }
        company_api.answers += [(400, {})] * 5
        system.start_worker()
        system.start_beat()
        system.send(*[json.dumps({"employeeId": number}) for number in range(1, 6)])
        system.wait_for_audit(parked=5)
        assert company_api.calls[0].headers["Authorization"] == f"Bearer {CANARY}"
        until(lambda: any("parked" in title for title in titles(receiver)), what="the group's notification")
        until(lambda: len(alerts(receiver)) == 2, what="the group and the burst at Sentry")
        parked = [str(job["id"]) for job in system.jobs() if job["state"] == "parked"]
        assert system.redrive("replay", *parked).returncode == 0
        system.wait_for_audit(recovered=5)
        with closing(sqlite3.connect(system.folder / "state" / "ledger.db", timeout=TEST_TIMEOUT)) as ledger, ledger:
            ledger.execute("UPDATE attempts SET began_at = began_at - 3600000")  # an hour later
        until(lambda: sum("over" in title.lower() for title in titles(receiver)) == 2, what=f"{titles(receiver)}")
        logs = system.log("worker") + system.log("beat")
    group = [event for event in alerts(receiver) if event["fingerprint"][0].startswith("group:")]
    assert len(group) == 1
    assert len(alerts(receiver)) == 2
    assert len(titles(receiver)) == 4
    sent = b"".join(post.body for post in receiver.posts)
    assert CANARY.encode() not in sent
    assert CANARY not in logs
