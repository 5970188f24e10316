"""Redrive's processes as people start them, on an SQS that can be killed, in a folder of the run's own."""

from __future__ import annotations

import os
import signal
import sys
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import psutil
from botocore.exceptions import BotoCoreError, ClientError
from torture_plan import PROCESSES
from torture_sender import client_of
from torture_settings import QUEUES

from tasks.devstack import child
from tasks.devstack.sqs import EmbeddedSqs
from tasks.dlq.errors import OutOfReach

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Mapping
    from pathlib import Path

#: Seconds of grace at the end: a call and its settle.
GRACE = 8.0


def wait_for(look: Callable[[], object], *, seconds: float, what: str) -> None:
    """Return when `look` answers something true. Raises OutOfReach after `seconds`."""
    end = time.monotonic() + seconds
    while not look():
        if time.monotonic() > end:
            raise OutOfReach(f"{what} did not come up in {seconds:g} s", hint="the logs in the run's folder say why")
        time.sleep(0.05)


class Stack:
    """Names stand for whichever process has the name now; a deploy's new process takes it from the old one."""

    def __init__(self, folder: Path, env: Mapping[str, str]) -> None:
        self._folder = folder
        self._env = env
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._retiring: dict[str, subprocess.Popen[bytes]] = {}
        self._all: list[subprocess.Popen[bytes]] = []
        self._down: set[str] = set()
        self._starts = 0
        self._sqs = EmbeddedSqs()
        self._sqs_process: subprocess.Popen[bytes] | None = None

    @property
    def sqs_port(self) -> int:
        return self._sqs.port

    # --- SQS ----------------------------------------------------------------------------------------------------------

    def start_sqs(self) -> None:
        """Start SQS, empty, on the port that it always has, with the producers' queues."""
        sqs = self._sqs
        sqs.port = sqs.port or child.free_port()
        sqs.directory = self._folder
        sqs.scratch.mkdir(exist_ok=True)
        env = {"PATH": os.environ.get("PATH", os.defpath), "TMPDIR": str(sqs.scratch), **sqs._environment()}
        with (self._folder / "sqs.log").open("ab") as log:
            process = child.spawn(sqs._command(), env=env, output=log, cwd=sqs.scratch)
        self._sqs_process = process
        self._all.append(process)
        wait_for(self._sqs_answers, seconds=60, what="the embedded SQS")
        client = client_of(sqs.port)
        for queue in QUEUES.values():
            # The producers' queue is there before Redrive. Its messages come again soon: a run is short.
            client.create_queue(QueueName=queue, Attributes={"VisibilityTimeout": "6"})
        client.close()

    def kill_sqs(self) -> None:
        if self._sqs_process:
            self._sqs_process.kill()
            self._sqs_process.wait()

    def mend_sqs(self, restart: Callable[[], None]) -> None:
        """Have SQS there."""
        if self._sqs_process and self._sqs_process.poll() is not None:
            restart()

    def messages(self) -> int:
        """Count the producers' messages in SQS, those in flight and given up, too."""
        client = client_of(self._sqs.port)
        try:
            urls = [url for queue in QUEUES.values() for url in client.list_queues(QueueNamePrefix=queue).get("QueueUrls", [])]
            found = [client.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"] for url in urls]
        finally:
            client.close()
        return sum(int(each[name]) for each in found for name in each if name.startswith("ApproximateNumberOfMessages"))

    def _sqs_answers(self) -> bool:
        client = client_of(self._sqs.port)
        with suppress(BotoCoreError, ClientError):
            client.list_queues()
            return True
        client.close()
        return False

    # --- Redrive ------------------------------------------------------------------------------------------------------

    def start(self, name: str) -> None:
        """Start a process of this name, beside one that may still be there."""
        self._starts += 1
        self._down.discard(name)
        python = [sys.executable, "-m"]
        if name == "intake":
            command = [*python, "tasks.cli", "intake"]
        elif name.startswith("beat"):
            command = [*python, "celery", "-A", "tasks", "beat", "--loglevel=INFO", f"--schedule={self._folder / name}"]
        else:
            host = f"--hostname={name}-{self._starts}@%h"
            command = [*python, "celery", "-A", "tasks", "worker", "--loglevel=INFO", host]
        with (self._folder / f"{name}.log").open("ab") as log:
            self._running[name] = child.spawn(command, env=self._env, output=log, cwd=self._folder)
        self._all.append(self._running[name])

    def deploy(self, name: str) -> None:
        """Start the new process; `retire` ends the old one. Both work meanwhile."""
        if name in self._running:
            self._retiring[name] = self._running[name]
        self.start(name)

    def retire(self, name: str) -> None:
        if old := self._retiring.pop(name, None):
            self._signal(old.pid, signal.SIGCONT)
            self._signal(old.pid, signal.SIGTERM)

    def kill(self, name: str) -> None:
        """Kill the process alone: what it had started sees to itself."""
        self._down.add(name)
        self._signal(self._running[name].pid, signal.SIGKILL)

    def kill_child(self, name: str, share: float) -> bool:
        return self._to_child(name, share, signal.SIGKILL)

    def stop_main(self, name: str) -> None:
        self._signal(self._running[name].pid, signal.SIGSTOP)

    def stop_child(self, name: str, share: float) -> bool:
        return self._to_child(name, share, signal.SIGSTOP)

    def go(self, name: str) -> None:
        """Let the process and its children go on."""
        process = self._running[name]
        for pid in (*self._children(process), process.pid):
            self._signal(pid, signal.SIGCONT)

    def mend(self) -> None:
        """Have every process there, and going on."""
        self._down.clear()
        self.supervise()
        for name in PROCESSES:
            self.retire(name)
            self.go(name)

    def supervise(self) -> list[str]:
        """Start again, as a supervisor would, what has ended without being killed; return the names."""
        fallen = [name for name in PROCESSES if name not in self._down and self._running[name].poll() is not None]
        for name in fallen:
            self.start(name)
        return fallen

    def log(self, name: str) -> str:
        file = self._folder / f"{name}.log"
        return file.read_text(errors="replace") if file.exists() else ""

    def close(self) -> None:
        """End all processes that were ever started here."""
        for process in self._all:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGCONT)
        sqs = self._sqs_process
        child.stop([process for process in self._all if process is not sqs], grace=GRACE)
        child.stop([sqs] if sqs else [], grace=0)

    def _to_child(self, name: str, share: float, number: int) -> bool:
        children = self._children(self._running[name])
        if not children:
            return False
        self._signal(children[int(share * len(children))], number)
        return True

    def _children(self, process: subprocess.Popen[bytes]) -> list[int]:
        try:
            return sorted(each.pid for each in psutil.Process(process.pid).children())
        except psutil.NoSuchProcess:
            return []

    def _signal(self, pid: int, number: int) -> None:
        with suppress(ProcessLookupError):
            os.kill(pid, number)
