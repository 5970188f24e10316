"""An outage and a pause, by real processes and real sockets: what the API's own log says of both."""

from __future__ import annotations

import json
import signal
import time
from typing import TYPE_CHECKING

import pytest
from doubles.company_api import ApiCall, CompanyApi, serving
from stack import Stack, stack
from waiting import TEST_TIMEOUT, until

from tasks.devstack import child
from tasks.dlq.calls.route import Route

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

    from tasks.devstack.sqs import EmbeddedSqs

INTERVAL = Route.probe_interval
#: Probes that a busy machine may have held up before the API served. tests/integration/test_breaker_outage.py shows the bound in
#: simulated time.
LATE = 1


@pytest.fixture
def company() -> CompanyApi:
    """An API that answers 503. Nothing listens at its port until it is served."""
    api = CompanyApi(f"http://127.0.0.1:{child.free_port()}")
    api.status = 503
    return api


def served(company: CompanyApi) -> AbstractContextManager[None]:
    """Serve the API at its port."""
    return serving(company, int(company.url.rpartition(":")[2]))


def answered_since(company: CompanyApi, moment: float) -> list[ApiCall]:
    """Return the calls that began after this moment and were answered with 200."""
    return [call for call in company.answered(200) if call.began > moment]


@pytest.fixture
def system(tmp_path: Path, sqs: EmbeddedSqs, company: CompanyApi) -> Iterator[Stack]:
    """Two workers and beat."""
    with stack(tmp_path, sqs, company) as made:
        start_workers(made, "one", "two")
        made.start_beat()
        yield made


def start_workers(system: Stack, *names: str) -> None:
    """Start workers side by side, on a machine that may be busy."""
    for name in names:
        system.start(name, "celery", "-A", "tasks", "worker", "--loglevel=INFO", f"--hostname={name}@%h")
    for name in names:
        until(lambda name=name: "ready." in system.log(name), what=f"{name}: {system.log(name)[-2000:]}")


def employees(numbers: range) -> list[str]:
    return [json.dumps({"employeeId": number}) for number in numbers]


def test_an_outage_costs_no_attempt_and_the_backlog_flows_at_once(system: Stack, company: CompanyApi):
    system.send(*employees(range(1, 21)))
    until(lambda: system.route()["breaker"] == "open", what=f"an open breaker: {system.log('one')[-2000:]}")
    for name in ("one", "two"):  # whoever opened it is gone
        worker = system.processes.pop(name)
        worker.send_signal(signal.SIGKILL)
        worker.wait()
    with served(company):
        served_at = time.monotonic()
        start_workers(system, "three", "four")
        until(lambda: len(company.answered(503)) >= 4, what="four probes")
        assert {job["attempts"] for job in system.jobs()} == {0}
        assert {job["state"] for job in system.jobs()} <= {"scheduled", "retryable", "executing"}
        company.status, back = 200, time.monotonic()
        system.wait_for_audit(recovered=20)

    probes = company.answered(503)
    assert len(probes) <= (back - served_at) / INTERVAL + 1 + LATE  # no burst, though all workers are new
    assert len({probe.path for probe in probes[:4]}) == 4
    regular = answered_since(company, back)
    assert len(regular) == 20
    assert regular[-1].began - regular[0].began < 10 * INTERVAL  # the backlog flows at once, not at the pace of the probes


def count_sweeps(system: Stack) -> int:
    """Count the sweeps for due jobs that both workers have finished."""
    lines = [line for name in ("one", "two") for line in system.log(name).splitlines()]
    return sum("redrive.promote[" in line and " succeeded " in line for line in lines)


def test_a_paused_route_sends_no_call_and_no_wakeup_and_goes_on_at_once(system: Stack, company: CompanyApi):
    company.status = 409
    with served(company):
        system.send(*employees(range(1, 3)))
        until(lambda: len(company.answered(409)) >= 2, what="a first call of each")
        assert system.redrive("pause", "employees", "--reason", "a deploy").returncode == 0
        until(lambda: system.left("redrive-recovery") == 0, what="the delivery of every wake-up")
        company.status, paused = 200, time.monotonic()

        system.send(*employees(range(1, 11)))  # new jobs, and needs of those that are due again
        system.wait_for_audit(accepted=12)
        swept = count_sweeps(system)
        until(lambda: count_sweeps(system) >= swept + 3, what="three sweeps")
        assert answered_since(company, paused) == []
        assert system.left("redrive-recovery") == 0
        assert system.audit()["pending"] == 12

        beat = system.processes.pop("beat")  # no sweep helps: the wake-ups of `redrive resume` are the only ones
        beat.terminate()
        beat.wait(TEST_TIMEOUT)
        assert system.redrive("resume", "employees").returncode == 0
        until(lambda: company.answered(200), what="the first call")
        system.start_beat()
        system.wait_for_audit(recovered=12)
