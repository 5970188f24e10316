"""A wake-up that is broken off by the soft limit, wherever it is: the job is rescued, and nothing stays locked or open."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from stack import Stack, stack
from waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from doubles.company_api import CompanyApi

    from tasks.devstack.sqs import EmbeddedSqs

#: Redrive's own application with another soft limit: the real one is longer than what anything may take here.
HASTY = """
from tasks.celery import app
assert set(app.conf.task_annotations) == {"redrive.recover"}
app.conf.task_annotations = {"redrive.recover": {"soft_time_limit": 2}}
"""


@pytest.fixture
def running(tmp_path: Path, sqs: EmbeddedSqs, company_api: CompanyApi) -> Iterator[Stack]:
    with stack(tmp_path, sqs, company_api) as made:
        (tmp_path / "hasty.py").write_text(HASTY)
        made.start("worker", "celery", "-A", "hasty", "worker", "--loglevel=INFO")
        until(lambda: "ready." in made.log("worker"), what="a worker")
        made.start_beat()
        yield made
        company_api.gate.set()


def test_a_call_that_hangs_is_broken_off_and_made_again(running: Stack, company_api: CompanyApi):
    company_api.gate.clear()
    running.send('{"employeeId": 1}')
    company_api.wait_for_calls(1)
    until(lambda: "SoftTimeLimitExceeded" in running.log("worker"), what="the soft limit")
    company_api.gate.set()

    running.wait_for_audit(accepted=1, recovered=1)
    assert set(company_api.paths()) == {"/employees/1"}
    [job] = running.jobs()
    assert job["state"] == "completed"
    assert job["calls"] == len(company_api.calls) >= 2  # on a busy machine the limit may break off more than one


def test_a_worker_that_waits_for_the_ledger_is_broken_off_and_locks_nothing(running: Stack, company_api: CompanyApi):
    company_api.gate.clear()
    running.send('{"employeeId": 1}')
    company_api.wait_for_calls(1)
    with closing(sqlite3.connect(running.folder / "state" / "ledger.db", isolation_level=None, timeout=30)) as other:
        other.execute("BEGIN IMMEDIATE")
        company_api.gate.set()  # the answer is there, and cannot be written down
        until(lambda: "Soft time limit (2s) exceeded" in running.log("worker"), what="the soft limit")
        other.execute("ROLLBACK")
        until(lambda: "SoftTimeLimitExceeded" in running.log("worker"), what="the end of the task")
        other.execute("BEGIN IMMEDIATE")  # the worker has not kept the lock
        other.execute("ROLLBACK")

    running.wait_for_audit(accepted=1, recovered=1)
    running.send('{"employeeId": 2}')
    running.wait_for_audit(accepted=2, recovered=2)
    assert company_api.most_in_flight == 1
