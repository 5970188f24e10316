"""What the doctor makes of secrets that are missing in its own shell, and of where alerts go."""

from __future__ import annotations

from typing import Any

from tasks.dlq.errors import ConfigError
from tasks.dlq.process import Role
from tasks.doctor.findings import Finding, State
from tasks.doctor.secrets import check_secrets, judge_missing
from tasks.settings import assemble

TOKEN = ConfigError("EMPLOYEES_API_TOKEN is not set", hint="set the variable")
PASSWORD = ConfigError("KAFKA_PASSWORD is not set", hint="set it, too")
ROUTE = {"url": "http://127.0.0.1:1/{id}", "params": {"id": "int"}}


def test_a_secret_that_a_running_worker_has_is_only_missing_here():
    found = judge_missing({Role.WORKER: [TOKEN]}, {Role.WORKER: ["a:7"], Role.BEAT: ["a:8"]})
    assert found.state is State.WARNING
    assert found.detail.startswith("not in this shell: EMPLOYEES_API_TOKEN is not set; the running worker a:7 ")


def test_a_secret_that_no_running_process_has_is_wrong():
    nobody = judge_missing({Role.WORKER: [TOKEN]}, {Role.BEAT: ["a:8"]})
    assert (nobody.state, nobody.detail, nobody.hint) == (State.WRONG, TOKEN.message, TOKEN.hint)
    half = judge_missing({Role.WORKER: [TOKEN], Role.INTAKE: [PASSWORD]}, {Role.WORKER: ["a:7"]})
    assert (half.state, half.detail) == (State.WRONG, f"{TOKEN.message}; {PASSWORD.message}")


def check(environ: dict[str, str], **routes: Any) -> dict[str, Finding]:
    settings = assemble({"routes": {name: ROUTE | route for name, route in routes.items()}}, environ)
    return {finding.name: finding for finding in check_secrets(settings)}


def test_secrets_are_named_and_never_shown():
    found = check({"TOKEN": "t0ken-that-nobody-may-see"}, employees={"bearer_env": "TOKEN"})
    assert (found["secrets"].state, "TOKEN" in found["secrets"].detail) == (State.OK, True)
    assert "t0ken" not in str(found)
    assert check({})["secrets"].detail == "none is needed"


def test_notifications_that_reach_nobody_are_a_warning():
    nobody = check({})["notifications"]
    assert (nobody.state, "REDRIVE_NOTIFY is not set" in nobody.detail) == (State.WARNING, True)
    by_sentry = check({"SENTRY_DSN": "https://key@sentry.invalid/1"})
    assert [by_sentry[name].state for name in ("Sentry", "notifications")] == [State.OK, State.OK]


def test_notification_urls_are_tried_with_apprise():
    fine = check({"REDRIVE_NOTIFY": "json://127.0.0.1:1/t0ken"})["notifications"]
    assert (fine.state, fine.detail) == (State.OK, "to json-1")
    wrong = check({"REDRIVE_NOTIFY": "slak://t0ken/a/b"})["notifications"]
    assert (wrong.state, "slak://…" in wrong.detail) == (State.WRONG, True)
    assert "t0ken" not in f"{fine}{wrong}"


def test_a_dsn_that_cannot_be_one_is_wrong():
    assert check({"SENTRY_DSN": "sentry"})["Sentry"].state is State.WRONG
