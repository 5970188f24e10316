"""An outage and a pause, by real processes and real sockets: what the API's own log says of both."""

from __future__ import annotations

import json
import signal
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from patience import until
from stack import Stack, stack

from tasks.devstack import child
from tasks.dlq.calls.route import Route

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tasks.devstack.sqs import EmbeddedSqs

INTERVAL = Route.probe_interval
#: Seconds that a busy machine may be late; tests/integration/test_breaker_outage.py shows the bound in a time of its own.
BUSY = 6.0


@dataclass
class Company:
    """An API at a port where nothing listens until it is served. It answers with `status`, and keeps a log."""

    port: int = field(default_factory=child.free_port)
    status: int = 503
    calls: list[tuple[float, str, int]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def answered(self, status: int, since: float = 0.0) -> list[tuple[float, str]]:
        return [(moment, path) for moment, path, answer in self.calls if answer == status and moment > since]

    @contextmanager
    def serving(self) -> Iterator[None]:
        company = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_PUT(self) -> None:
                company.calls.append((time.monotonic(), self.path, company.status))
                self.send_response(company.status)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", self.port), Handler)
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield
        finally:
            server.shutdown()
            server.server_close()
            thread.join()


@pytest.fixture
def company() -> Company:
    return Company()


@pytest.fixture
def system(tmp_path: Path, sqs: EmbeddedSqs, company: Company) -> Iterator[Stack]:
    """Two workers and beat, with beat's default sweeps."""
    with stack(tmp_path, sqs, company) as made:
        config = tmp_path / "redrive.toml"
        config.write_text(
            config.read_text().replace('promote = "1s"', 'promote = "5s"').replace('rescue = "2s"', 'rescue = "10s"')
        )
        start_workers(made, "one", "two")
        made.start_beat()
        yield made


def start_workers(system: Stack, *names: str) -> None:
    """Start workers side by side, on a machine that may be busy."""
    for name in names:
        system.start(name, "celery", "-A", "tasks", "worker", "--loglevel=INFO", f"--hostname={name}@%h")
    for name in names:
        until(lambda name=name: "ready." in system.log(name), seconds=120, what=f"{name}: {system.log(name)[-2000:]}")


def route(system: Stack) -> dict[str, Any]:
    """Return what `redrive stats` says of the route."""
    return json.loads(system.redrive("stats", "--json").stdout.splitlines()[0])


def employees(numbers: range) -> list[str]:
    return [json.dumps({"employeeId": number}) for number in numbers]


def test_an_outage_costs_no_attempt_and_is_over_seconds_after_the_apis_return(system: Stack, company: Company):
    system.send(*employees(range(1, 21)))
    until(lambda: route(system)["breaker"] == "open", seconds=60, what=f"an open breaker: {system.log('one')[-2000:]}")
    for name in ("one", "two"):  # whoever opened it is gone
        worker = system.processes.pop(name)
        worker.send_signal(signal.SIGKILL)
        worker.wait()
    with company.serving():
        served = time.monotonic()
        start_workers(system, "three", "four")
        until(lambda: len(company.answered(503)) >= 4, seconds=120, what="four probes")
        assert {job["attempts"] for job in system.jobs()} == {0}
        assert {job["state"] for job in system.jobs()} <= {"scheduled", "retryable", "executing"}
        company.status, back = 200, time.monotonic()
        system.wait_for_audit(seconds=90, recovered=20)

    probes = company.answered(503)
    assert len(probes) <= (back - served) / INTERVAL + 1  # no burst, though all workers are new
    assert min(later - earlier for (earlier, _), (later, _) in pairwise(probes)) > INTERVAL - 0.5
    assert len({path for _, path in probes[:4]}) == 4
    regular = company.answered(200, back)
    assert regular[0][0] - back <= INTERVAL + 1 + BUSY
    assert regular[-1][0] - regular[0][0] <= INTERVAL + BUSY  # the backlog flows at once
    assert len(regular) == 20


def test_a_paused_route_calls_and_rings_nothing_and_goes_on_at_once(system: Stack, company: Company):
    company.status = 409
    with company.serving():
        system.send(*employees(range(1, 3)))
        until(lambda: len(company.answered(409)) >= 2, what="a first call of each")
        assert system.redrive("pause", "employees", "--reason", "a deploy").returncode == 0
        until(lambda: system.left("redrive-recovery") == 0, seconds=60, what="bells that were out")
        company.status, paused = 200, time.monotonic()

        system.send(*employees(range(1, 11)))  # new jobs, and needs of those that are due again
        system.wait_for_audit(accepted=12)
        swept = system.log("one").count("redrive.promote[") + system.log("two").count("redrive.promote[")
        until(
            lambda: system.log("one").count("redrive.promote[") + system.log("two").count("redrive.promote[") >= swept + 6,
            seconds=90,
            what="three sweeps",
        )
        assert company.answered(200, paused) == []
        assert system.left("redrive-recovery") == 0
        assert system.audit()["pending"] == 12

        resumed = time.monotonic()
        assert system.redrive("resume", "employees").returncode == 0
        until(lambda: company.answered(200), what="the first call")
        assert company.answered(200)[0][0] - resumed <= 3 + BUSY  # `redrive resume` starts Python, and rings
        system.wait_for_audit(recovered=12)
