"""Liveness and readiness of real processes: what is stopped, or has lost its ledger, turns red, and green again by itself."""

from __future__ import annotations

import json
import os
import signal
import socket
import sqlite3
import time
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING

import psutil
import pytest
from stack import Stack, stack
from waiting import TEST_TIMEOUT, until

from tasks.dlq.process import HEARTBEAT_INTERVAL, Role
from tasks.doctor import probes
from tasks.doctor.findings import State
from tasks.settings import settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from doubles.company_api import CompanyApi

    from tasks.devstack.sqs import EmbeddedSqs

#: Seconds that a sign of life may be old here: a little more than they are apart, so that red is soon.
WITHIN = HEARTBEAT_INTERVAL + 3


@pytest.fixture
def running(tmp_path: Path, sqs: EmbeddedSqs, company_api: CompanyApi, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stack]:
    with stack(tmp_path, sqs, company_api) as made:
        for name in ("REDRIVE_CONFIG", "REDRIVE_STATE_DIR"):
            monkeypatch.setenv(name, made.env[name])
        settings.cache_clear()
        made.start_worker()
        made.start_beat()
        made.start("intake", "tasks.cli", "intake")
        yield made
        settings.cache_clear()


def is_green(question: str, role: Role) -> bool:
    """Ask what `redrive doctor --QUESTION ROLE` asks, in this process: it is asked often."""
    ask = probes.check_liveness if question == "live" else probes.check_readiness
    return ask(settings(), role, within=WITHIN).state is State.OK


def wait_for(*, live: bool | None = None, ready: bool | None = None, roles: tuple[Role, ...] = tuple(Role)) -> None:
    """Wait until the health checks of all these processes say so."""
    for question, wanted in (("live", live), ("ready", ready)):
        for role in roles if wanted is not None else ():
            until(partial(_says, question, role, wanted), what=f"{role} {question} {wanted}")


def _says(question: str, role: Role, wanted: bool) -> bool:  # noqa: FBT001 - partial's
    return is_green(question, role) is wanted


def examined(running: Stack) -> dict[str, dict[str, str]]:
    """Return what `redrive doctor` says, by the check's name."""
    return {each["name"]: each for each in json.loads(running.redrive("doctor", "--json", "--offline").stdout)["checks"]}


def pool_of(process: psutil.Process) -> list[psutil.Process]:
    """Return the processes of a worker's pool."""
    return until(process.children, what="a pool")


def test_a_process_that_stands_still_is_not_live_and_goes_on_green(running: Stack):
    wait_for(live=True, ready=True)
    assert [running.redrive("doctor", question, "worker").returncode for question in ("--live", "--ready")] == [0, 0]
    done = running.redrive("doctor", "--json", "--offline")
    report = json.loads(done.stdout)
    assert (done.returncode, report["ok"]) == (0, True), report
    assert {each["state"] for each in report["checks"] if each["name"] in set(Role)} == {"ok"}, report

    for process in running.processes.values():
        process.send_signal(signal.SIGSTOP)
    wait_for(live=False, ready=False)
    stuck = [running.redrive("doctor", question, "worker", "--within", "5") for question in ("--live", "--ready")]
    assert [(each.returncode, "stuck" in each.stdout) for each in stuck] == [(1, True), (1, True)]
    files = list((running.folder / "state" / "health").iterdir())
    for file in files:
        os.utime(file, (time.time() - 63,) * 2)
    found = examined(running)
    for file in files:  # else the worker's pool takes its main process for stuck, until that has touched its file
        os.utime(file)
    for role in Role:
        assert found[role]["detail"].startswith(f"stuck: process {running.processes[role].pid} for "), found
        assert found[role]["hint"].startswith("restart it")
    for process in running.processes.values():
        process.send_signal(signal.SIGCONT)
    wait_for(live=True, ready=True)

    [child] = pool_of(psutil.Process(running.processes["worker"].pid))
    child.suspend()
    wait_for(ready=False, roles=(Role.WORKER,))
    wait_for(live=True, roles=(Role.WORKER,))
    child.resume()
    wait_for(ready=True, roles=(Role.WORKER,))

    before = {name: len(running.log(name)) for name in running.processes}
    for process in running.processes.values():
        process.terminate()
    for name, process in running.processes.items():
        assert process.wait(TEST_TIMEOUT) == 0, running.log(name)
    wait_for(live=False, ready=False)
    assert not list((running.folder / "state" / "health").iterdir())
    with closing(sqlite3.connect(running.folder / "state" / "ledger.db")) as ledger:
        assert ledger.execute("SELECT name FROM processes").fetchall() == []
    for name, already in before.items():
        assert "heartbeat_lost" not in running.log(name)[already:]


def test_a_worker_that_was_killed_is_not_alive_from_that_moment_on(running: Stack):
    wait_for(live=True, ready=True)
    worker = running.processes["worker"]
    [child] = pool_of(psutil.Process(worker.pid))
    worker.send_signal(signal.SIGSTOP)
    child.kill()  # it would find that it has no parent any more, and take its row along
    worker.kill()
    worker.wait(TEST_TIMEOUT)
    found = examined(running)
    assert found["worker"]["detail"].startswith(f"none runs; {socket.gethostname()}:{worker.pid} did not stop cleanly"), found
    assert found["beat"]["detail"] == f"1 running: {socket.gethostname()}:{running.processes['beat'].pid}"


def test_without_its_ledger_a_process_is_live_but_not_ready_and_comes_back(running: Stack):
    wait_for(live=True, ready=True)
    with closing(sqlite3.connect(running.folder / "state" / "ledger.db", isolation_level=None)) as locker:
        locker.execute("PRAGMA busy_timeout = 15000")
        locker.execute("BEGIN IMMEDIATE")
        wait_for(live=True, ready=False)
        assert running.redrive("doctor", "--offline").returncode == 5
        found = examined(running)
        assert found["ledger's commit"]["detail"] == "another process has held the write lock for 3 s"
        assert found["backlog"]["state"] == found["worker"]["state"] == "ok"  # what can be read is told all the same
        locker.execute("ROLLBACK")
    wait_for(live=True, ready=True)
    for name in ("worker", "beat", "intake"):
        assert running.log(name).count("heartbeat_lost") == running.log(name).count("heartbeat_restored") <= 1, running.log(name)
