"""Flower beside a real worker on SQS: what it sees, what it may do, and that work goes on when its Redis is killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import psutil
import pytest
import redis
import requests
from celery import Celery
from doubles.company_api import CompanyApi, company_api_server
from waiting import TEST_TIMEOUT, until

from tasks.devstack import child
from tasks.devstack.redis import EmbeddedRedis
from tasks.monitoring import flower_command

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tasks.devstack.sqs import EmbeddedSqs

pytestmark = pytest.mark.xdist_group("flower")  # one process has the parts that its tests share

BASIC_AUTH = "operator:only-here"

CONFIG = """
[broker]
url = "sqs://local:only-here@127.0.0.1:{sqs.port}"
queue_prefix = "flower-"
wait_time = 1
[routes.employees]
url = "{api.url}/employees/{{employeeId}}"
delay = "0s"
deadline = "5s"
drain = "0s"
params.employeeId = "positive-int"
retry = {{ base = "2s", cap = "2s" }}
"""


@dataclass
class Service:
    """The real parts: a worker and Flower as processes, a Redis that can be killed, an API, and a producer."""

    folder: Path
    api: CompanyApi
    redis: EmbeddedRedis
    producer: Celery
    environment: dict[str, str]
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)
    port: int = 0

    def spawn(self, name: str, command: list[str]) -> subprocess.Popen[bytes]:
        with (self.folder / f"{name}.log").open("ab") as log:
            process = child.spawn(command, env=self.environment, output=log, cwd=self.folder)
        self.processes.append(process)
        return process

    def log(self, name: str) -> str:
        return (self.folder / f"{name}.log").read_text(errors="replace")

    def submit(self, employee: int) -> None:
        self.producer.send_task(
            "redrive.submit", kwargs={"route": "employees", "parameters": {"employeeId": employee}}, queue="redrive-submit"
        )

    def flower(self, path: str, *, method: str = "GET", auth: str = BASIC_AUTH, **body: Any) -> tuple[int, Any]:
        """Ask Flower; return the status and the JSON, or the text of a refusal; status 0 while it does not listen."""
        user, _, password = auth.partition(":")
        try:
            answer = requests.request(
                method, f"http://127.0.0.1:{self.port}{path}", auth=(user, password), json=body or None, timeout=20
            )
        except requests.ConnectionError:
            return 0, None
        return answer.status_code, answer.json() if answer.ok else answer.text

    def worker(self) -> tuple[str, dict[str, Any]]:
        """Return the name of the one worker that Flower knows, and what it knows of it."""

        def known() -> list[tuple[str, dict[str, Any]]]:
            workers = self.flower("/api/workers?refresh=1")[1] or {}
            return [(name, facts) for name, facts in workers.items() if {"active_queues", "registered", "stats"} <= set(facts)]

        [worker] = until(known, what="a worker in Flower")
        return worker

    def alive(self) -> bool:
        return any((self.flower("/api/workers?status=1")[1] or {}).values())

    def recovered(self) -> dict[str, dict[str, Any]]:
        """Return the finished wake-ups that Flower knows, by id."""
        found: dict[str, dict[str, Any]] = self.flower("/api/tasks?taskname=redrive.recover&state=SUCCESS")[1]
        return found

    def revive_redis(self) -> None:
        """Start Redis again at its old address, and wait until the worker and Flower have subscribed again."""
        self.processes.append(child.spawn(self.redis._command(), env={}, output=subprocess.DEVNULL, cwd=self.redis.directory))
        client = redis.Redis.from_url(self.redis.url, retry=None)

        def subscribed() -> bool:
            try:
                return client.pubsub_numpat() >= 2
            except redis.ConnectionError:
                return False

        until(subscribed, what="the worker and Flower at Redis")
        client.close()


@pytest.fixture(scope="module")
def service(sqs: EmbeddedSqs, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    folder = tmp_path_factory.mktemp("flower")
    with EmbeddedRedis() as side, company_api_server() as api:
        (folder / "redrive.toml").write_text(CONFIG.format(sqs=sqs, api=api))
        environment = {
            "PATH": os.environ["PATH"],
            "REDRIVE_CONFIG": str(folder / "redrive.toml"),
            "REDRIVE_STATE_DIR": str(folder / "state"),
            "REDRIVE_MONITOR__URL": side.url,
            "FLOWER_BASIC_AUTH": BASIC_AUTH,
        }
        producer = Celery("producer", broker=f"sqs://local:only-here@127.0.0.1:{sqs.port}", set_as_current=False)
        producer.conf.broker_transport_options = {"region": sqs.region, "is_secure": False, "queue_name_prefix": "flower-"}
        service = Service(folder, api, side, producer, environment)
        service.port = child.free_port()
        try:
            service.spawn("worker", [sys.executable, "-m", "celery", "-A", "tasks", "worker"])
            service.spawn("flower", flower_command(service.port))
            until(service.alive, what="a worker in Flower")
            yield service
        finally:
            child.stop(service.processes, grace=20)
            producer.close()


def test_flower_sees_the_worker_and_its_queues(service: Service):
    name, facts = service.worker()
    assert name.startswith("celery@")
    assert {queue["name"] for queue in facts["active_queues"]} == {"redrive-recovery", "redrive-submit", "redrive-maintenance"}
    assert {"redrive.recover", "redrive.submit", "redrive.promote"} <= set(facts["registered"])
    assert facts["stats"]["pool"]["max-concurrency"] == 1
    assert "only-here" not in json.dumps(facts)


def test_flower_sees_a_finished_and_a_retried_recover(service: Service):
    service.api.answers.append((503, {}))
    service.submit(1234)
    service.api.wait_for_calls(2)
    assert service.api.paths() == ["/employees/1234"] * 2
    [retried] = until(service.recovered, what="a finished recover in Flower").values()
    assert retried["retried"]
    assert retried["retries"] == 1
    assert "due again" in retried["exception"]
    assert retried["worker"] == service.worker()[0]


def test_flower_may_revoke_but_not_stop_or_start_anything(service: Service):
    name, _ = service.worker()
    assert service.flower("/api/task/revoke/some-wake-up", method="POST")[0] == 200
    until(lambda: "some-wake-up" in service.flower(f"/api/workers?refresh=1&workername={name}")[1][name]["revoked"])
    assert service.flower(f"/api/worker/shutdown/{name}", method="POST")[0] == 200  # Flower waits for no answer
    until(lambda: '"command_refused","command":"shutdown"' in service.log("worker"))
    status, refusal = service.flower(f"/api/worker/queue/cancel-consumer/{name}?queue=redrive-recovery", method="POST")
    assert (status, "refused: 'cancel_consumer' is not allowed" in refusal) == (403, True)
    assert service.flower("/api/task/async-apply/redrive.recover", method="POST", args=[1])[0] == 503
    assert "the side channel carries no tasks" in service.log("flower")
    assert service.worker()[0] == name


def test_a_submission_is_kept_whatever_is_revoked(service: Service):
    """Its id was chosen by a producer, perhaps twice; a failure does not vanish by a click."""
    name, _ = service.worker()
    assert service.flower("/api/task/revoke/order-77", method="POST")[0] == 200
    until(lambda: "order-77" in service.flower(f"/api/workers?refresh=1&workername={name}")[1][name]["revoked"])
    kwargs = {"route": "employees", "parameters": {"employeeId": 77}}
    service.producer.send_task("redrive.submit", kwargs=kwargs, queue="redrive-submit", task_id="order-77")
    until(lambda: "/employees/77" in service.api.paths(), what="the call of a submission with a revoked id")


def test_flower_asks_who_is_there(service: Service):
    assert service.flower("/api/workers", auth="")[0] == 401
    assert service.flower("/api/workers", auth="operator:wrong")[0] == 401


def test_the_bare_command_listens_on_loopback_only(service: Service):
    port = child.free_port()
    flower = service.spawn("bare", [sys.executable, "-m", "celery", "-A", "tasks", "flower", f"--port={port}"])
    process = psutil.Process(flower.pid)

    def listening() -> set[str]:
        return {one.laddr.ip for one in process.net_connections("tcp") if one.status == "LISTEN" and one.laddr.port == port}

    assert until(listening, what="Flower") == {"127.0.0.1"}


def test_inspect_and_status_answer_over_the_side_channel(service: Service):
    for words in (["inspect", "ping"], ["status"]):
        command = [sys.executable, "-m", "celery", "-A", "tasks", *words]
        done = subprocess.run(command, env=service.environment, cwd=service.folder, capture_output=True, text=True, check=False)
        assert (done.returncode, "1 node online" in done.stdout) == (0, True), done.stderr


def test_work_goes_on_without_redis_and_flower_comes_back_by_itself(service: Service):
    name, _ = service.worker()
    calls = len(service.api.calls)
    service.redis.process.kill()
    service.redis.process.wait()
    for employee in range(1, 6):
        service.submit(employee)
    service.api.wait_for_calls(calls + 5)
    assert "redis_lost" in service.log("worker")
    service.revive_redis()
    before = set(service.recovered())
    service.submit(6)
    until(lambda: set(service.recovered()) - before, what="a new task in Flower")
    assert service.worker()[0] == name


def test_a_worker_that_ends_says_so(service: Service):
    name, _ = service.worker()
    worker = service.processes[0]
    worker.terminate()
    assert worker.wait(TEST_TIMEOUT) == 0
    until(lambda: not service.alive(), what="the worker's end in Flower")
    metrics = requests.get(f"http://127.0.0.1:{service.port}/metrics", timeout=20).text
    assert f'flower_worker_online{{worker="{name}"}} 0.0' in metrics  # said by the worker, not concluded from its silence
