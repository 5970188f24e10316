"""Real processes on embedded parts: `celery -A tasks worker` and `celery -A tasks beat`, as a person would start them."""

from __future__ import annotations

import json
import os
import sys
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import boto3
from celery import Celery
from redrive_command import Done, run_command
from waiting import TEST_TIMEOUT, until

from tasks.devstack import child
from tasks.dlq.errors import OutOfReach
from tasks.dlq.ledger import Ledger
from tasks.dlq.ledger.audit import audit

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from pathlib import Path

    from doubles.company_api import CompanyApi
    from mypy_boto3_sqs import SQSClient

    from tasks.devstack.sqs import EmbeddedSqs

CONFIG = """
[broker]
url = "sqs://local:only-here@127.0.0.1:{port}"
queue_prefix = "{prefix}"
[routes.employees]
url = "{api}/employees/{{employeeId}}"
delay = "1s"
deadline = "3s"
drain = "1s"
max_in_flight = {max_in_flight}
params.employeeId = "positive-int"
retry = {{ max_attempts = 3, base = "1s", cap = "2s" }}
[sources.employees_dlq]
kind = "sqs"
queue = "{prefix}employees-dlq"
route = "employees"
map.employeeId = "employeeId"
[sweeps]
promote = "1s"
rescue = "2s"
sources = "1s"
watch = "2s"
"""


@dataclass
class Stack:
    """A folder with a redrive.toml, and the processes that were started in it."""

    folder: Path
    client: SQSClient
    prefix: str
    env: dict[str, str]
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def start(self, name: str, *command: str) -> subprocess.Popen[bytes]:
        """Start one process; what it says goes to NAME.log."""
        with (self.folder / f"{name}.log").open("ab") as log:
            self.processes[name] = child.spawn([sys.executable, "-m", *command], env=self.env, output=log, cwd=self.folder)
        return self.processes[name]

    def start_worker(self, name: str = "worker") -> subprocess.Popen[bytes]:
        process = self.start(name, "celery", "-A", "tasks", "worker", "--loglevel=INFO", f"--hostname={name}@%h")
        until(lambda: "ready." in self.log(name), what=f"{name}: {self.log(name)[-2000:]}")
        return process

    def start_beat(self, name: str = "beat") -> subprocess.Popen[bytes]:
        process = self.start(name, "celery", "-A", "tasks", "beat", "--loglevel=INFO", f"--schedule={self.folder / name}")
        until(lambda: "beat: Starting" in self.log(name), what=f"{name}: {self.log(name)[-2000:]}")
        return process

    def log(self, name: str) -> str:
        file = self.folder / f"{name}.log"
        return file.read_text(errors="replace") if file.exists() else ""

    def send(self, *bodies: str, queue: str = "employees-dlq") -> None:
        """Send raw messages, as any language would."""
        url = self.client.get_queue_url(QueueName=self.prefix + queue)["QueueUrl"]
        for body in bodies:
            self.client.send_message(QueueUrl=url, MessageBody=body)

    @contextmanager
    def producer(self) -> Iterator[Celery]:
        """Another team's Celery application on the same broker: it knows Redrive's tasks by name only."""
        with Celery("shop", broker=f"sqs://local:only-here@{self.client.meta.endpoint_url.removeprefix('http://')}") as app:
            app.conf.broker_transport_options = {"region": "us-east-1", "queue_name_prefix": self.prefix}
            yield app

    def submit(self, route: str, *, options: dict[str, Any] | None = None, **parameters: Any) -> None:
        """Submit a failure by name."""
        kwargs = {"route": route, "parameters": parameters, "origin": {"topic": "employees"}}
        with self.producer() as producer:
            producer.send_task("redrive.submit", kwargs=kwargs, **{"queue": "redrive-submit", **(options or {})})

    def queues(self) -> set[str]:
        """Return the names of the queues that there are, without the prefix."""
        urls = self.client.list_queues(QueueNamePrefix=self.prefix).get("QueueUrls", [])
        return {url.rpartition("/")[2].removeprefix(self.prefix) for url in urls}

    def left(self, queue: str = "employees-dlq") -> int:
        """Count a queue's messages, in flight and delayed ones too."""
        url = self.client.get_queue_url(QueueName=self.prefix + queue)["QueueUrl"]
        attributes = self.client.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
        return sum(int(value) for name, value in attributes.items() if name.startswith("ApproximateNumberOfMessages"))

    def redrive(self, *arguments: str) -> Done:
        """Run the command line."""
        return run_command(*arguments, folder=self.folder, env=self.env)

    def audit(self) -> dict[str, Any]:
        return json.loads(self.redrive("audit", "--json").stdout)

    def jobs(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.redrive("jobs", "--json", "--limit", "500").stdout.splitlines()]

    def route(self) -> dict[str, Any]:
        """Return what `redrive stats` says of the one route."""
        return json.loads(self.redrive("stats", "--json").stdout.splitlines()[0])

    def wait_for_audit(self, seconds: float = TEST_TIMEOUT, **wanted: int) -> dict[str, Any]:
        """Wait until the audit has these sums; return what the command says then."""
        url = self.env.get("REDRIVE_LEDGER__URL") or f"sqlite:///{self.env['REDRIVE_STATE_DIR']}/ledger.db"
        seen: dict[str, Any] = {}

        def look() -> bool:
            with closing(Ledger(url)) as ledger, suppress(OutOfReach), ledger.begin(read_only=True) as tx:
                seen.update(audit(tx).as_dict())
            return all(seen.get(name) == value for name, value in wanted.items())

        try:
            until(look, seconds=seconds, what=f"audit {wanted}", every=0.2)  # not by the command: a process for each look
        except AssertionError:
            raise AssertionError(f"after {seconds:g} s the audit has {seen}, not {wanted}") from None
        return self.audit()


@contextmanager
def stack(folder: Path, sqs: EmbeddedSqs, api: CompanyApi, *, max_in_flight: int = 1, more: str = "") -> Iterator[Stack]:
    """Prepare a folder of one's own on the shared SQS; end all its processes at the end."""
    prefix = f"{folder.name[-30:]}-".replace("_", "-").replace("[", "").replace("]", "")
    config = CONFIG.format(port=sqs.port, api=api.url, prefix=prefix, max_in_flight=max_in_flight)
    (folder / "redrive.toml").write_text(config + more)
    env = {name: value for name, value in os.environ.items() if not name.startswith(("REDRIVE_", "CELERY_", "SENTRY_"))}
    env |= {"REDRIVE_CONFIG": str(folder / "redrive.toml"), "REDRIVE_STATE_DIR": str(folder / "state"), "C_FORCE_ROOT": "1"}
    client = boto3.client(
        "sqs",
        endpoint_url=sqs.endpoint,
        region_name=sqs.region,
        aws_access_key_id="local",
        aws_secret_access_key="only-here",
    )
    made = Stack(folder=folder, client=client, prefix=prefix, env=env)
    try:
        yield made
    finally:
        child.stop(made.processes.values(), grace=10)
        client.close()
