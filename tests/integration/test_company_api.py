import asyncio
import http.client
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tasks.devstack import child
from tasks.devstack.company.store import Change, Company


class Api:
    """The sample API in a process of its own."""

    def __init__(self, port: int) -> None:
        self.port = port

    def request(self, method: str, path: str, **headers: str) -> tuple[int, dict[str, str], Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        body = json.loads(answer.read() or "null")
        connection.close()
        return answer.status, dict(answer.getheaders()), body

    def put(self, path: str, **headers: str) -> int:
        return self.request("PUT", path, **headers)[0]

    def stats(self) -> Any:
        return self.request("GET", "/stats")[2]

    def healthy(self) -> bool:
        try:
            return self.request("GET", "/health")[0] == 200
        except OSError:
            return False


@pytest.fixture
def company(tmp_path: Path) -> Iterator[Company]:
    company = Company(tmp_path)
    company.found(range(1, 11))
    yield company
    company.close()


@pytest.fixture
def serve(company: Company, tmp_path: Path) -> Iterator[Any]:  # noqa: ARG001 - it is the one that is served
    started: list[subprocess.Popen[bytes]] = []

    def start(*options: str) -> Api:
        port = child.free_port()
        command = [sys.executable, "-m", "tasks.devstack.company.api", str(tmp_path), "--port", str(port), *options]
        started.append(child.spawn(command, env=os.environ, output=subprocess.DEVNULL))
        api = Api(port)
        until(api.healthy)
        return api

    yield start
    child.stop(started, grace=20)
    ended = [process.returncode for process in started]
    assert ended == [-signal.SIGTERM] * len(started)  # uvicorn's way to say that it went when asked


def until(true: Any) -> None:
    patience = time.monotonic() + 30
    while not true():
        assert time.monotonic() < patience, "it never came"
        time.sleep(0.02)


def test_put_heals_a_stale_employee(serve: Any, company: Company):
    api = serve("--faults", "none")
    company.learn(Change(department="Sales", revision=1, employees=(4,)))
    assert company.stale() == [4]
    status, _, body = api.request("PUT", "/employees/4")
    assert status == 200
    assert body["department"] == "Sales"
    assert company.stale() == []
    assert api.request("GET", "/employees/4")[2] == body


def test_wrong_ids_are_refused(serve: Any):
    api = serve("--faults", "none", "--employees", "10")
    for path, status in {"/employees/11": 404, "/employees/x": 422, "/employees/1.5": 422, "/employees/" + "9" * 19: 422}.items():
        assert api.put(path) == status
        assert api.request("GET", path)[0] == status


def test_an_older_fence_is_refused_and_counted(serve: Any):
    api = serve("--faults", "none")
    statuses = [api.put("/employees/1", Redrive_Fence=fence) for fence in ("5", "4", "5", "6", "five")]
    assert statuses == [200, 412, 200, 200, 422]
    assert api.stats()["refused_fences"] == 1


def test_calls_are_counted_while_they_are_open(serve: Any):
    api = serve("--faults", "none")

    async def put(path: str) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", api.port)
        writer.write(f"PUT {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        answer = await reader.read()
        writer.close()
        return answer.split(b"\r\n", 1)[0]

    async def crowd(*numbers: int) -> list[bytes]:
        return await asyncio.gather(*(put(f"/employees/{number}") for number in numbers))

    assert asyncio.run(crowd(1)) == [b"HTTP/1.1 200 OK"]
    assert asyncio.run(crowd(2)) == [b"HTTP/1.1 200 OK"]
    assert [api.stats()[name] for name in ("calls", "max_in_flight", "max_in_flight_per_key")] == [2, 1, 1]
    asyncio.run(crowd(1, 2, 3))
    assert [api.stats()[name] for name in ("calls", "max_in_flight", "max_in_flight_per_key")] == [5, 3, 1]
    asyncio.run(crowd(4, 4))
    stats = api.stats()
    assert stats["max_in_flight_per_key"] == 2
    assert stats["in_flight"] == 0
    calls = api.request("GET", "/calls")[2]
    assert [call["path"] for call in calls[:2]] == ["/employees/1", "/employees/2"]
    assert all(call["began"] < call["ended"] for call in calls)


def test_faults_are_409_503_with_retry_after_and_a_hang_that_ends_with_its_client(serve: Any):
    api = serve("--faults", "bounded", "--seed", "3")
    seen = set()
    while len(seen) < 3:
        status, headers = asyncio.run(call_with_deadline(api.port, 1.0))
        if status is None:
            seen.add("hang")
            until(lambda: api.stats()["in_flight"] == 0)
            assert api.stats()["statuses"]["499"] == 1
        elif status == 503:
            seen.add("unavailable")
            assert headers["retry-after"] in {"1", "2"}
        elif status == 409:
            seen.add("conflict")
        else:
            assert status == 200
        assert api.stats()["calls"] < 30
    assert api.stats()["faults"].keys() == seen


async def call_with_deadline(port: int, seconds: float) -> tuple[int | None, dict[str, str]]:
    """Call, and go away when no answer comes."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"PUT /employees/1 HTTP/1.1\r\nHost: x\r\n\r\n")
    try:
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), seconds)
    except TimeoutError:
        return None, {}
    finally:
        writer.close()
    lines = head.decode().lower().split("\r\n")
    return int(lines[0].split()[1]), dict(line.split(": ", 1) for line in lines[1:] if line)
