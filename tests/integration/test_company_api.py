import http.client
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from waiting import until

from tasks.devstack import child
from tasks.devstack.company.faults import Fault, FaultPlan
from tasks.devstack.company.store import Change, Company
from tasks.devstack.readiness import answers_ok


class Api:
    """The sample API in a process of its own."""

    def __init__(self, port: int) -> None:
        self.port = port

    def open(self, method: str, path: str, **headers: str) -> http.client.HTTPConnection:
        """Send a request."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        return connection

    def request(self, method: str, path: str, **headers: str) -> tuple[int, dict[str, str], Any]:
        """Send a request, and return status, headers and body of the answer."""
        connection = self.open(method, path, **headers)
        answer = connection.getresponse()
        body = json.loads(answer.read() or "null")
        connection.close()
        return answer.status, dict(answer.getheaders()), body

    def put(self, path: str, **headers: str) -> int:
        return self.request("PUT", path, **headers)[0]

    def stats(self) -> Any:
        return self.request("GET", "/stats")[2]


@pytest.fixture
def company(tmp_path: Path) -> Iterator[Company]:
    company = Company(tmp_path)
    company.create(range(1, 11))
    yield company
    company.close()


@pytest.fixture
def serve(company: Company, tmp_path: Path) -> Iterator[Callable[..., Api]]:  # noqa: ARG001 - the company that is served
    started: list[subprocess.Popen[bytes]] = []

    def start(*options: str) -> Api:
        port = child.free_port()
        command = [sys.executable, "-m", "tasks.devstack.company.api", str(tmp_path), "--port", str(port), *options]
        started.append(child.spawn(command, env=os.environ, output=subprocess.DEVNULL))
        until(lambda: answers_ok(port, "/health"), what="the API")
        return Api(port)

    yield start
    child.stop(started, grace=60)
    assert [process.returncode for process in started] == [-signal.SIGTERM] * len(started)  # uvicorn ends so after SIGTERM


def test_put_updates_a_stale_employee(serve: Callable[..., Api], company: Company):
    api = serve("--faults", "none")
    company.change_facts(Change(department="Sales", revision=1, employees=(4,)))
    assert company.find_stale() == [4]
    status, _, body = api.request("PUT", "/employees/4")
    assert status == 200
    assert body["department"] == "Sales"
    assert company.find_stale() == []


def test_wrong_ids_are_refused(serve: Callable[..., Api]):
    api = serve("--faults", "none")
    for path, status in {"/employees/11": 404, "/employees/x": 422, "/employees/1.5": 422, "/employees/" + "9" * 19: 422}.items():
        assert api.put(path) == status


def test_an_older_fence_is_refused(serve: Callable[..., Api]):
    api = serve("--faults", "none")
    statuses = [api.put("/employees/1", Redrive_Fence=fence) for fence in ("5", "4", "5", "6", "five")]
    assert statuses == [200, 412, 200, 200, 422]


def test_calls_are_counted(serve: Callable[..., Api]):
    api = serve("--faults", "none")
    assert [api.put("/employees/1"), api.put("/employees/2"), api.put("/employees/11")] == [200, 200, 404]
    assert api.stats() == {
        "calls": 3,
        "in_flight": 0,
        "max_in_flight": 1,
        "max_in_flight_per_key": 1,
        "statuses": {"200": 2, "404": 1},
    }


def test_each_call_has_the_fault_that_is_planned_for_it(serve: Callable[..., Api]):
    api, plan = serve("--faults", "bounded", "--seed", "3"), FaultPlan(3)
    seen: set[Fault | None] = set()
    while seen < {*Fault, None}:
        fault = plan.next()
        seen.add(fault)
        if fault is Fault.HANG:
            call = api.open("PUT", "/employees/1")
            until(lambda: api.stats()["in_flight"] == 1, what="the open call")
            call.close()
            until(lambda: api.stats()["in_flight"] == 0, what="the end of the call")
            assert api.stats()["statuses"]["499"] == 1
            continue
        status, headers, _ = api.request("PUT", "/employees/1")
        assert status == {Fault.CONFLICT: 409, Fault.UNAVAILABLE: 503, None: 200}[fault]
        assert headers.get("retry-after") == (str(plan.choose_retry_after()) if fault is Fault.UNAVAILABLE else None)
