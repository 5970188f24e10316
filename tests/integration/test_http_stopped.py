"""A worker that is stopped between its claim and its call, for longer than the call may take, sends nothing when it goes on."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from hostile_server import OK, HostileServer, answer
from ledger_bench import A, B, a_letter
from sqlalchemy import select
from stopped_worker import DEADLINE, START

from tasks.dlq.ledger import Ledger
from tasks.dlq.ledger.dead_letters import record
from tasks.dlq.ledger.schema import jobs, metadata

WORKER = Path(__file__).with_name("stopped_worker.py")


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    ledger = Ledger(f"sqlite:///{tmp_path}/ledger.db")
    metadata.create_all(ledger.engine)
    yield ledger
    ledger.close()


def put_due(ledger: Ledger, *keys: str) -> None:
    ledger.transact(lambda tx: record(tx, [a_letter(key) for key in keys], delays={"employees": 0.0}))


def rows(ledger: Ledger) -> list[Mapping[str, Any]]:
    with ledger.begin(read_only=True) as tx:
        return list(tx.connection.execute(select(jobs).order_by(jobs.c.id)).mappings())


def work(ledger: Ledger, server: HostileServer, edge: str) -> None:
    """Run a worker to its end; where it stops on its way, let it go on when the time for its call is over."""
    command = [sys.executable, str(WORKER), str(ledger.engine.url), server.url(), "1", edge]
    with subprocess.Popen(command) as worker:
        try:
            seen = os.waitid(os.P_PID, worker.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
            assert seen is not None
            if edge != "never":
                assert seen.si_code == os.CLD_STOPPED
                time.sleep(START + DEADLINE + 0.2)  # the time for the call passes while nothing runs: no event can tell of it
                worker.send_signal(signal.SIGCONT)
            assert worker.wait(60) == 0
        finally:
            worker.kill()


def test_a_worker_that_is_not_stopped_calls(ledger: Ledger):
    put_due(ledger, A, B)
    with HostileServer(answer(OK)) as server:
        work(ledger, server, "never")
    assert len(server.requests) == 2
    assert [row["state"] for row in rows(ledger)] == ["completed", "completed"]


@pytest.mark.parametrize(
    ("edge", "outcome", "connected"),
    [
        ("claimed", "not_sent", 0),
        ("about to prepare", "deadline", 0),
        ("about to connect", "deadline", 0),
        ("about to send", "deadline", 1),
    ],
)
def test_a_worker_that_was_stopped_for_too_long_sends_nothing(ledger: Ledger, edge: str, outcome: str, connected: int):
    put_due(ledger, A)
    with HostileServer(answer(OK)) as server:
        work(ledger, server, edge)
    assert (server.accepted, server.requests) == (connected, [])
    (job,) = rows(ledger)
    assert (job["state"], job["calls"], job["outcome"], job["rest_until"]) == ("retryable", 1, outcome, None)


def test_nor_does_it_send_on_a_connection_that_it_has_kept(ledger: Ledger):
    put_due(ledger, A, B)
    with HostileServer(answer(OK)) as server:
        work(ledger, server, "about to send the second call")
    assert (server.accepted, len(server.requests)) == (1, 1)
    assert [row["state"] for row in rows(ledger)] == ["completed", "retryable"]
