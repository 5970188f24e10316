"""What a worker and a beat say by default, on an ordinary day and while SQS is away."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from doubles.tcp_proxy import TcpProxy
from stack import Stack, stack
from waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from doubles.company_api import CompanyApi

    from tasks.devstack.sqs import EmbeddedSqs

#: The secret of the broker's account: see the stack's redrive.toml.
SECRET = "only-here"


@pytest.fixture
def proxy(sqs: EmbeddedSqs) -> Iterator[TcpProxy]:
    proxy = TcpProxy(sqs.port)
    yield proxy
    proxy.close()


def said(system: Stack, name: str) -> list[dict[str, Any]]:
    """Return the process's log lines; the rest is Celery's banner."""
    return [json.loads(line) for line in system.log(name).splitlines() if line.startswith("{")]


def test_by_default_they_say_what_a_person_wants_to_know_and_an_outage_is_one_line_each(
    tmp_path: Path, sqs: EmbeddedSqs, company_api: CompanyApi, proxy: TcpProxy
):
    with stack(tmp_path, sqs, company_api) as system:
        config = tmp_path / "redrive.toml"
        config.write_text(config.read_text().replace(f"127.0.0.1:{sqs.port}", f"127.0.0.1:{proxy.port}"))
        system.start("worker", "celery", "-A", "tasks", "worker")
        system.start("beat", "celery", "-A", "tasks", "beat", f"--schedule={tmp_path / 'beat'}")
        until(lambda: "ready." in system.log("worker"), what=system.log("worker")[-2000:])
        until(lambda: "beat: Starting" in system.log("beat"), what=system.log("beat")[-2000:])
        company_api.answers += [(503, {}), (200, {}), (400, {})]
        system.send('{"employeeId": 1}')
        system.wait_for_audit(recovered=1)
        system.send('{"employeeId": 2}')
        system.wait_for_audit(recovered=1, parked=1)
        company_api.gate.clear()
        system.send('{"employeeId": 3}')
        company_api.wait_for_calls(4)
        proxy.cut()
        company_api.gate.set()
        until(lambda: "Couldn't apply scheduled task" in system.log("beat"), what="beat's outage")
        until(lambda: "Couldn't ack" in system.log("worker"), what="an acknowledgement that fails")
        proxy.restore()
        assert system.wait_for_audit(recovered=2, parked=1)["balanced"]
    worker, beat = said(system, "worker"), said(system, "beat")
    events = [entry["event"] for entry in worker]
    assert [entry["state"] for entry in worker if entry["event"] == "call_ended"] == [
        "retryable",
        "completed",
        "parked",
        "completed",
    ]
    for told in ("Connected to sqs://***@", "Task redrive.recover[", "Task redrive.sources["):
        assert any(event.startswith(told) for event in events), told
    assert not [event for event in events if event.endswith("received")], "not every task"
    assert not [entry for entry in beat if "Sending due task" in entry["event"]]
    outage = [entry for entry in worker + beat if "Couldn't" in entry["event"]]
    assert all("Error: " in entry["error"] and "\n" not in entry["error"] for entry in outage)
    for text in (system.log("worker"), system.log("beat")):
        assert "Traceback" not in text
        assert SECRET not in text
