"""`redrive up` as a person runs it: in a process of its own, with the sample company."""

import json
import os
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import pytest
import requests
from patience import until

from tasks.devstack.environment import hermetic


class Up:
    """A running `redrive up`."""

    def __init__(self, process: subprocess.Popen[str], state: Path, env: dict[str, str]) -> None:
        self.process = process
        self.state = state
        self.env = env
        self.said: list[str] = []

    def wait_until_ready(self) -> None:
        for line in self.process.stdout:
            self.said.append(line.rstrip())
            if line.strip() == "redrive audit":  # the last line that it prints
                return
        raise AssertionError(f"it ended before it was up: {self.said}")

    def url(self, name: str) -> str:
        (line,) = [line for line in self.said if line.split()[:1] == [name]]
        return line.split()[1]

    def children(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def child(self, *words: str) -> psutil.Process:
        found = [child for child in self.children() if set(words) <= set(child.cmdline())]
        return min(found, key=lambda child: child.create_time())

    def type(self, typed: str) -> str:
        """Type into another terminal, which stands elsewhere and has no virtual environment, and return what that prints."""
        (source,) = [line for line in self.said if line.startswith("  . ")]
        script = f"set -e\n{source}\n{typed}"
        env = {"PATH": os.defpath, "HOME": str(self.state)}
        done = subprocess.run(["sh", "-c", script], env=env, cwd="/", check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def printed(self, first: str) -> str:
        """Return the printed command that begins like this, with the lines that belong to it."""
        begin = next(number for number, line in enumerate(self.said) if line.startswith(f"  {first}"))
        end = next(number for number in range(begin + 1, len(self.said)) if not self.said[number].startswith("    "))
        return "\n".join(self.said[begin:end])

    def redrive(self, *arguments: str) -> Any:
        """Run a command in another terminal, and return the objects that it prints."""
        return [json.loads(line) for line in self.type(shlex.join(["redrive", *arguments, "--json"])).splitlines()]

    def jobs(self) -> dict[str, str]:
        return {job["parameters"]["employeeId"]: job["state"] for job in self.redrive("jobs")}


@contextmanager
def up(tmp_path: Path, *options: str, **more: str) -> Iterator[Up]:
    state = tmp_path / "state"
    env = hermetic(REDRIVE_STATE_DIR=str(state), **more)
    command = [sys.executable, "-m", "tasks.cli", "up", *options]
    with (
        (tmp_path / "stderr.log").open("a") as log,
        subprocess.Popen(
            command, env=env, cwd=tmp_path, stdout=subprocess.PIPE, stderr=log, text=True, start_new_session=True
        ) as process,
    ):
        try:
            yield Up(process, state, env)
        finally:
            process.kill()


def alive(children: list[psutil.Process]) -> list[psutil.Process]:
    return [child for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]


def test_a_failure_on_the_raw_queue_becomes_a_completed_job_and_ctrl_c_ends_all(tmp_path: Path):
    with up(tmp_path, "--sample") as first:
        first.wait_until_ready()
        children = first.children()
        first.process.kill()  # an unclean stop: nobody had time to tidy up
    until(lambda: not alive(children), what="the end of all children")

    with up(tmp_path, "--sample") as again:
        again.wait_until_ready()
        told = (tmp_path / "stderr.log").read_text()
        assert "created the queue" not in told, "up makes them itself, before several processes would"
        assert all("superuser" in line for line in told.splitlines() if "SecurityWarning" in line), "one line"
        children = again.children()
        listening = {c.laddr.ip for each in children for c in each.net_connections() if c.status == psutil.CONN_LISTEN}
        assert listening == {"127.0.0.1"}

        again.type(again.printed("python3 -c"))
        assert "job 1: employees employeeId=7" in again.type(again.printed("redrive send"))
        again.redrive("send", "employees", "employeeId=8")
        until(lambda: again.jobs() == {"7": "completed", "8": "completed"}, seconds=60, what="both jobs' completion")
        assert [(job["needs"], job["parameters"]) for job in again.redrive("jobs")][1] == (2, {"employeeId": "7"})
        assert len(again.printed("aws sqs").splitlines()) == 3
        assert "--endpoint-url http://127.0.0.1:" in again.printed("aws sqs"), "version 1 of the CLI reads no variable for it"
        assert requests.get(again.url("company"), timeout=10).json()["max_in_flight"] == 1
        assert requests.get(again.url("Flower"), timeout=10).status_code == 200

        second = subprocess.run(
            [sys.executable, "-m", "tasks.cli", "up"], env=again.env, cwd=tmp_path, check=False, capture_output=True, text=True
        )
        assert second.returncode == 2
        assert f"another `redrive up` runs in {again.state}: process {again.process.pid}" in second.stderr

        again.process.send_signal(signal.SIGINT)
        assert again.process.wait(30) == 0
    assert alive(children) == []
    assert not (again.state / "up.env").exists()
    assert "Traceback" not in (tmp_path / "stderr.log").read_text()


def test_a_worker_that_dies_ends_all_and_is_named(tmp_path: Path):
    with up(tmp_path, "--sample") as running:
        running.wait_until_ready()
        children = running.children()
        running.child("celery", "worker").kill()
        assert running.process.wait(30) == 1
    assert alive(children) == []
    assert "worker was ended by SIGKILL; stopping the others" in (tmp_path / "stderr.log").read_text()


def test_a_flower_that_dies_is_no_reason_to_stop(tmp_path: Path):
    with up(tmp_path, "--sample") as running:
        running.wait_until_ready()
        running.child("celery", "flower").kill()
        until(lambda: "flower was ended by SIGKILL" in (tmp_path / "stderr.log").read_text(), what="the notice")
        running.redrive("send", "employees", "employeeId=9")
        until(lambda: running.jobs() == {"9": "completed"}, seconds=60, what="the job's completion")
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(30) == 0


@pytest.mark.parametrize("options", [[], ["--sample"]])
def test_a_wrong_configuration_is_told_before_anything_starts(tmp_path: Path, options: list[str]):
    (tmp_path / "redrive.toml").write_text("[routes.employees]\nurl = 'ftp://company.com'\n")
    done = subprocess.run(
        [sys.executable, "-m", "tasks.cli", "up", *options],
        env=hermetic(),
        cwd=tmp_path,
        check=False,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "routes.employees.url" in done.stderr
    assert "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["redrive.toml"]


def test_a_missing_token_is_told_before_anything_starts(tmp_path: Path):
    (tmp_path / "redrive.toml").write_text('[routes.employees]\nurl = "https://company.com/"\nbearer_env = "TEAM_TOKEN"\n')
    command = [sys.executable, "-m", "tasks.cli", "up"]
    done = subprocess.run(command, env=hermetic(), cwd=tmp_path, check=False, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("redrive: TEAM_TOKEN is not set: routes.employees.bearer_env says that it holds the token\n")
    assert "export it in this shell" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["redrive.toml"]
