"""The heartbeat: what it needs, when it stops, and what it leaves behind."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from contextlib import closing, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from ledger_bench import POSTGRESQL, SQLITE, URLS, a_database
from sqlalchemy import event
from structlog.testing import capture_logs
from waiting import TEST_TIMEOUT, until

from tasks.dlq.health.heartbeat import Heartbeat
from tasks.dlq.ledger import Ledger
from tasks.dlq.ledger.processes import list_processes
from tasks.dlq.process import Process, Role

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WORKER = Process(role=Role.WORKER, host="node-1", pid=71, main_pid=70, version="0.1.0", serves=("redrive-recovery",))


@pytest.fixture(params=URLS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with a_database(request.param, tmp_path) as made:
        yield made


def seen(url: str) -> list[dict[str, Any]]:
    with closing(Ledger(url)) as ledger, ledger.begin(read_only=True) as tx:
        return list_processes(tx)


def impatient(url: str) -> Ledger:
    """A ledger that waits for nobody's lock."""
    ledger = Ledger(url)
    statement = "SET lock_timeout = '100ms'" if url.startswith(POSTGRESQL) else "PRAGMA busy_timeout = 100"
    event.listen(ledger.engine, "connect", lambda connection, _: connection.execute(statement))
    return ledger


def heartbeat(url: str, **more: Any) -> Heartbeat:
    return Heartbeat(WORKER, partial(impatient, url), more.pop("is_working", lambda: True), **more)


@contextmanager
def locked(url: str) -> Iterator[None]:
    """Hold the ledger as a writer does that does not end."""
    with closing(Ledger(url)) as other, other.begin() as tx:
        if url.startswith(POSTGRESQL):
            tx.connection.exec_driver_sql("LOCK TABLE processes IN ACCESS EXCLUSIVE MODE")
        yield


def test_a_heartbeat_says_who_and_since_when_and_a_clean_end_removes_it(url: str):
    beating = heartbeat(url, interval=0.05)
    beating.start()
    first = until(lambda: seen(url))[0]
    assert {name: first[name] for name in ("name", "role", "host", "pid", "main_pid", "version", "serves")} == {
        "name": "worker@node-1:71",
        "role": "worker",
        "host": "node-1",
        "pid": 71,
        "main_pid": 70,
        "version": "0.1.0",
        "serves": ["redrive-recovery"],
    }
    later = until(lambda: [each for each in seen(url) if each["seen_at"] > first["seen_at"]])[0]
    assert later["began_at"] == first["began_at"]
    beating.stop()
    assert seen(url) == []
    assert "redrive-heartbeat" not in {thread.name for thread in threading.enumerate()}


def test_a_locked_ledger_stops_the_heartbeat_and_each_change_is_logged_once(url: str):
    beating = heartbeat(url)
    assert beating.beat()
    with capture_logs() as logs:
        with locked(url):
            assert [beating.beat() for _ in range(3)] == [False, False, False]
        assert [beating.beat(), beating.beat()] == [True, True]
    assert [each["event"] for each in logs] == ["heartbeat_lost", "heartbeat_restored"]
    assert "does not answer" in logs[0]["error"]


def test_a_full_disk_stops_the_heartbeat_even_if_the_log_has_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with a_database(SQLITE, tmp_path) as url:
        beating = heartbeat(url)
        assert beating.beat()

        def full(_descriptor: int, _offset: int, _length: int) -> None:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(os, "posix_fallocate", full)
            assert not beating.beat()
        assert beating.beat()
        assert sorted(file.name for file in tmp_path.iterdir()) == ["ledger.db"]


def test_without_a_file_descriptor_there_is_no_heartbeat(url: str, tmp_path: Path):
    script = tmp_path / "beats.py"
    script.write_text(
        "import os, resource, sys\n"
        "from tasks.dlq.health.heartbeat import Heartbeat\n"
        "from tasks.dlq.ledger import Ledger\n"
        "from tasks.dlq.process import Process, Role\n"
        "process = Process(role=Role.BEAT, host='h', pid=1, main_pid=1, version='')\n"
        "heartbeat = Heartbeat(process, lambda: Ledger(sys.argv[1]), lambda: True)\n"
        "assert heartbeat.beat()\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))\n"
        "taken = []\n"
        "while True:\n"
        "    try: taken.append(os.dup(0))\n"
        "    except OSError: break\n"
        "assert not heartbeat.beat()\n"
        "for each in taken: os.close(each)\n"
        "assert heartbeat.beat()\n"
    )
    done = subprocess.run([sys.executable, script, url], capture_output=True, text=True, timeout=TEST_TIMEOUT, check=False)
    assert done.returncode == 0, done.stderr


def test_without_work_there_is_no_heartbeat_until_work_goes_on(url: str):
    working = iter([True, False, True])
    beating = heartbeat(url, is_working=lambda: next(working))
    with capture_logs() as logs:
        assert [beating.beat() for _ in range(3)] == [True, False, True]
    assert [each.get("error") for each in logs] == ["the work of this process stands still", None]


def test_a_heartbeat_survives_any_error():
    def fails() -> Ledger:
        raise MemoryError("no memory")

    with capture_logs() as logs:
        assert not Heartbeat(WORKER, fails, lambda: True).beat()
    assert logs[0]["error"] == "MemoryError: no memory"


def test_stop_does_not_wait_for_a_ledger_that_hangs():
    release = threading.Event()

    def hangs() -> Ledger:
        release.wait(TEST_TIMEOUT)
        raise RuntimeError

    beating = Heartbeat(WORKER, hangs, lambda: True)
    beating.start()
    began = time.monotonic()
    beating.stop()
    assert time.monotonic() - began < 30
    release.set()
    beating._thread.join()
