# ruff: noqa: INP001 - beside scripts, and imported by them
"""What the benchmarks of recovery stand on: real workers and beat, an embedded SQS, a ledger, and an API with a log."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import boto3

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import postgresql_server  # noqa: E402 - the tests' own
from doubles.company_api import CompanyApi, company_api_server  # noqa: E402, F401, TC002 - for the scripts, too
from stack import Stack  # noqa: E402
from waiting import until  # noqa: E402

from tasks.devstack import child  # noqa: E402

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tasks.devstack.sqs import EmbeddedSqs

CONFIG = """
[broker]
url = "sqs://local:only-here@127.0.0.1:{port}"
queue_prefix = "{prefix}"
[routes.employees]
url = "{api}/employees/{{employeeId}}"
delay = "0s"
deadline = "2m"
max_in_flight = {max_in_flight}
params.employeeId = "positive-int"
"""


class Rig(Stack):
    """A stack with a file of jobs to send, and a count of the wake-ups that its workers received."""

    def start_workers(self, *names: str, at_least_one: bool = False) -> None:
        """Start workers side by side, and wait until all are there (or one)."""
        for name in names:
            self.start(name, "celery", "-A", "tasks", "worker", "--loglevel=INFO", f"--hostname={name}@%h")
        enough = any if at_least_one else all
        until(lambda: enough("ready." in self.log(name) for name in names), seconds=120, what="workers")

    def send_jobs(self, count: int) -> None:
        """Hand over failures of so many employees, through `redrive send`."""
        file = self.folder / "jobs.jsonl"
        lines = (json.dumps({"employeeId": number}) for number in range(1, count + 1))
        file.write_text("".join(f"{line}\n" for line in lines))
        command = [sys.executable, "-m", "tasks.cli", "send", "employees", "--file", str(file)]
        subprocess.run(command, env=self.env, cwd=self.folder, check=True, stdout=subprocess.DEVNULL)  # noqa: S603 - our own

    def received(self) -> int:
        """Count the wake-ups that workers received so far."""
        logs = [file.read_text(errors="replace") for file in self.folder.glob("*.log")]
        return sum("redrive.recover[" in line and "received" in line for log in logs for line in log.splitlines())

    def purge(self, *queues: str) -> None:
        """Lose every message in these queues."""
        for queue in queues:
            self.client.purge_queue(QueueUrl=self.client.get_queue_url(QueueName=self.prefix + queue)["QueueUrl"])


@contextmanager
def rig(
    sqs: EmbeddedSqs,
    api: CompanyApi,
    *,
    name: str,
    ledger: str,
    max_in_flight: int = 1,
    more: str = "",
    env: Mapping[str, str] = {},
) -> Iterator[Rig]:
    """Prepare a stack on a fresh ledger ("sqlite" or "postgresql"); end all its processes at the end."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="redrive-bench-")))
        text = CONFIG.format(port=sqs.port, prefix=f"{name}-", api=api.url, max_in_flight=max_in_flight)
        (folder / "redrive.toml").write_text(text + more)
        whole = {key: value for key, value in os.environ.items() if not key.startswith(("REDRIVE_", "CELERY_", "SENTRY_"))}
        whole |= {"REDRIVE_CONFIG": str(folder / "redrive.toml"), "REDRIVE_STATE_DIR": str(folder / "state"), **env}
        whole |= {"C_FORCE_ROOT": "1", "PYTHONPATH": os.pathsep.join([str(ROOT), env.get("PYTHONPATH", "")]).rstrip(os.pathsep)}
        if ledger == "postgresql":
            url = stack.enter_context(postgresql_server.shared().database())
            whole["REDRIVE_LEDGER__URL"] = url.replace("postgresql:", "postgresql+psycopg:")
        client = boto3.client(
            "sqs",
            endpoint_url=sqs.endpoint,
            region_name=sqs.region,
            aws_access_key_id="local",
            aws_secret_access_key="only-here",  # noqa: S106
        )
        stack.callback(client.close)
        made = Rig(folder=folder, client=client, prefix=f"{name}-", env=whole)
        stack.callback(lambda: child.stop(made.processes.values(), grace=10))
        yield made
