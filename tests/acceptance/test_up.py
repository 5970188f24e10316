"""`redrive up` in a process of its own, with the sample company."""

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
from waiting import TEST_TIMEOUT, until

from tasks.devstack.environment import isolate_environment

WRONG = "[routes.employees]\nurl = 'ftp://company.com'\n"


class Up:
    """A running `redrive up`."""

    def __init__(self, process: subprocess.Popen[str], state: Path, env: dict[str, str]) -> None:
        self.process = process
        self.state = state
        self.env = env
        self.printed: list[str] = []

    def wait_until_ready(self) -> None:
        for line in self.process.stdout:
            self.printed.append(line.rstrip())
            if line.strip() == "redrive audit":  # the last line that it prints
                return
        raise AssertionError(f"it ended before it was up: {self.printed}")

    def url(self, name: str) -> str:
        (line,) = [line for line in self.printed if line.split()[:1] == [name]]
        return line.split()[1]

    def children(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def child(self, *words: str) -> psutil.Process:
        found = [child for child in self.children() if set(words) <= set(child.cmdline())]
        return min(found, key=lambda child: child.create_time())

    def run_in_terminal(self, command: str) -> str:
        """Run a command in another terminal, in another directory and without a virtual environment. Return its output."""
        (source,) = [line for line in self.printed if line.startswith("  . ")]
        script = f"set -e\n{source}\n{command}"
        env = {"PATH": os.defpath, "HOME": str(self.state)}
        done = subprocess.run(["sh", "-c", script], env=env, cwd="/", check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def find_command(self, text: str) -> str:
        """Return the printed command whose first line has this text, with its further lines."""
        begin = next(number for number, line in enumerate(self.printed) if text in line)
        end = next(number for number in range(begin + 1, len(self.printed)) if not self.printed[number].startswith("    "))
        return "\n".join(self.printed[begin:end])

    def redrive(self, *arguments: str) -> Any:
        """Run a command in another terminal, and return the objects that it prints."""
        return [json.loads(line) for line in self.run_in_terminal(shlex.join(["redrive", *arguments, "--json"])).splitlines()]

    def jobs(self) -> dict[str, str]:
        return {job["parameters"]["employeeId"]: job["state"] for job in self.redrive("jobs")}


@contextmanager
def up(tmp_path: Path, *options: str, **more: str) -> Iterator[Up]:
    state = tmp_path / "state"
    env = isolate_environment(REDRIVE_STATE_DIR=str(state), **more)
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


def run_up(folder: Path, *options: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run an `up` that is refused."""
    command = [sys.executable, "-m", "tasks.cli", "up", *options]
    return subprocess.run(command, env=env, cwd=folder, check=False, capture_output=True, text=True)


def alive(children: list[psutil.Process]) -> list[psutil.Process]:
    return [child for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]


def test_a_failure_on_the_raw_queue_is_recovered(tmp_path: Path):
    with up(tmp_path, "--sample") as running:
        running.wait_until_ready()
        stderr = (tmp_path / "stderr.log").read_text()
        assert "created" not in stderr, "up creates the queues before its processes start"
        assert "SecurityWarning" not in stderr
        children = running.children()
        listening = {c.laddr.ip for each in children for c in each.net_connections() if c.status == psutil.CONN_LISTEN}
        assert listening == {"127.0.0.1"}

        running.run_in_terminal(running.find_command("-c 'import boto3"))
        until(lambda: "7" in running.jobs(), what="the job of the message", every=1.0)
        assert "job 1: employees employeeId=7" in running.run_in_terminal(running.find_command("redrive send"))
        running.redrive("send", "employees", "employeeId=8")
        until(lambda: running.jobs() == {"7": "completed", "8": "completed"}, what="both jobs' completion", every=1.0)
        assert [(job["needs"], job["parameters"]) for job in running.redrive("jobs")][1] == (2, {"employeeId": "7"})
        assert len(running.find_command("aws sqs").splitlines()) == 3
        assert "--endpoint-url http://127.0.0.1:" in running.find_command("aws sqs")
        running.run_in_terminal("redrive stats && redrive audit && redrive doctor")
        assert requests.get(running.url("company"), timeout=10).json()["max_in_flight"] == 1
        assert requests.get(running.url("Flower"), timeout=10).status_code == 200

        second = run_up(tmp_path, "--sample", env=running.env)
        assert second.returncode == 2
        assert f"another `redrive up` runs in {running.state}: process {running.process.pid}" in second.stderr

        running.process.send_signal(signal.SIGINT)
        assert running.process.wait(TEST_TIMEOUT) == 0
    assert alive(children) == []
    assert not (running.state / "up.env").exists()
    assert "Traceback" not in (tmp_path / "stderr.log").read_text()


def test_a_killed_up_leaves_no_process_and_can_be_started_again(tmp_path: Path):
    for _ in range(2):
        with up(tmp_path, "--sample") as running:
            running.wait_until_ready()
            children = running.children()
            running.process.kill()
        until(lambda children=children: not alive(children), what="the end of all children")


def test_the_sample_ignores_the_users_own_configuration(tmp_path: Path):
    (tmp_path / "redrive.toml").write_text(WRONG)
    with up(tmp_path, "--sample") as running:
        running.wait_until_ready()
        assert running.url("config") == f"{running.state}/sample.toml"
        assert running.redrive("send", "employees", "employeeId=9")
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(TEST_TIMEOUT) == 0
    assert "redrive: --sample ignores your redrive.toml\n" in (tmp_path / "stderr.log").read_text()
    assert not (running.state / "ledger.db").exists(), "the user's ledger"


def test_if_the_worker_is_killed_everything_stops(tmp_path: Path):
    with up(tmp_path, "--sample") as running:
        running.wait_until_ready()
        children = running.children()
        running.child("celery", "worker").kill()
        assert running.process.wait(TEST_TIMEOUT) == 1
    assert alive(children) == []
    assert "worker ended by SIGKILL; stopping the others" in (tmp_path / "stderr.log").read_text()


def test_if_flower_is_killed_everything_else_goes_on(tmp_path: Path):
    with up(tmp_path, "--sample") as running:
        running.wait_until_ready()
        running.child("celery", "flower").kill()
        until(lambda: "flower ended by SIGKILL" in (tmp_path / "stderr.log").read_text(), what="the notice")
        running.redrive("send", "employees", "employeeId=9")
        until(lambda: running.jobs() == {"9": "completed"}, what="the job's completion", every=1.0)
        running.process.send_signal(signal.SIGTERM)
        assert running.process.wait(TEST_TIMEOUT) == 0


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (WRONG, "redrive.toml: routes.employees.url"),
        (
            '[routes.employees]\nurl = "https://company.com/"\nbearer_env = "TEAM_TOKEN"\n',
            "redrive: TEAM_TOKEN is not set: ",
        ),
        ("", "redrive: no route is configured\n"),
        (None, "redrive: no route is configured\n"),
    ],
)
def test_a_wrong_configuration_is_refused_before_anything_starts(tmp_path: Path, config: str | None, message: str):
    if config is not None:
        (tmp_path / "redrive.toml").write_text(config)
    before = list(tmp_path.iterdir())
    done = run_up(tmp_path, env=isolate_environment())
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert ("TEAM_TOKEN" in message) == ("export it in this shell" in done.stderr)
    assert "Traceback" not in done.stderr
    assert list(tmp_path.iterdir()) == before


def test_without_a_route_the_sample_is_recommended(tmp_path: Path):
    done = run_up(tmp_path, env=isolate_environment())
    assert done.stderr.splitlines()[1] == (
        f"try: redrive up --sample, or add [routes.NAME] to {tmp_path}/redrive.toml (not there)"
    )
