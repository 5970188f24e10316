"""Pulse and heartbeat: what each of them needs, what it does without, and what it leaves behind."""

from __future__ import annotations

import os
import re
import shutil
import socket
import stat
import subprocess
import sys
import threading
import time
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from ledger_bench import POSTGRESQL, SQLITE, URLS, a_database
from patience import until
from sqlalchemy import event
from structlog.testing import capture_logs

from tasks.adapters import pulse
from tasks.adapters.pulse import Pulse
from tasks.dlq.health.heartbeat import Heart
from tasks.dlq.ledger import Ledger, ManualClock
from tasks.dlq.ledger.processes import forget_unseen, present, see
from tasks.dlq.process import Process, Role

if TYPE_CHECKING:
    from collections.abc import Iterator

WORKER = Process(role=Role.WORKER, host="node-1", pid=71, main_pid=70, version="0.1.0", serves=("redrive-recovery",))


@pytest.fixture(params=URLS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    with a_database(request.param, tmp_path) as made:
        yield made


def seen(url: str) -> list[dict[str, Any]]:
    with closing(Ledger(url)) as ledger, ledger.begin(read_only=True) as tx:
        return present(tx)


def impatient(url: str) -> Ledger:
    """A ledger that waits for nobody's lock."""
    ledger = Ledger(url)
    statement = "SET lock_timeout = '100ms'" if url.startswith(POSTGRESQL) else "PRAGMA busy_timeout = 100"
    event.listen(ledger.engine, "connect", lambda connection, _: connection.execute(statement))
    return ledger


def heart(url: str, **more: Any) -> Heart:
    return Heart(WORKER, partial(impatient, url), more.pop("alive", lambda: True), **more)


@contextmanager
def locked(url: str) -> Iterator[None]:
    """Hold the ledger as a writer does that does not end."""
    with closing(Ledger(url)) as other, other.begin() as tx:
        if url.startswith(POSTGRESQL):
            tx.connection.exec_driver_sql("LOCK TABLE processes IN ACCESS EXCLUSIVE MODE")
        yield


def test_a_heartbeat_says_who_and_since_when_and_a_clean_end_takes_it_away(url: str):
    beating = heart(url, every=0.05)
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
    assert "redrive-heart" not in {thread.name for thread in threading.enumerate()}


def test_a_ledger_that_is_locked_lets_the_row_grow_old_and_one_line_each_tells_of_it(url: str):
    beating = heart(url)
    assert beating.beat()
    with capture_logs() as logs:
        with locked(url):
            assert [beating.beat() for _ in range(3)] == [False, False, False]
        assert [beating.beat(), beating.beat()] == [True, True]
    assert [each["event"] for each in logs] == ["no heartbeat: this process counts as ill", "the heartbeat is back"]
    assert "does not answer" in logs[0]["error"]


def test_a_disk_that_is_full_stops_the_heartbeat_even_where_the_log_has_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with a_database(SQLITE, tmp_path) as url:
        beating = heart(url)
        assert beating.beat()

        def full(_descriptor: int, _offset: int, _length: int) -> None:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patch:
            patch.setattr(os, "posix_fallocate", full)
            assert not beating.beat()
        assert beating.beat()
        assert sorted(file.name for file in tmp_path.iterdir() if file.name != "ledger.db-files") == ["ledger.db"]


def test_without_a_file_descriptor_there_is_no_heartbeat(url: str, tmp_path: Path):
    script = tmp_path / "beats.py"
    script.write_text(
        "import os, resource, sys\n"
        "from tasks.dlq.health.heartbeat import Heart\n"
        "from tasks.dlq.ledger import Ledger\n"
        "from tasks.dlq.process import Process, Role\n"
        "process = Process(role=Role.BEAT, host='h', pid=1, main_pid=1, version='')\n"
        "heart = Heart(process, lambda: Ledger(sys.argv[1]), lambda: True)\n"
        "assert heart.beat()\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))\n"
        "taken = []\n"
        "while True:\n"
        "    try: taken.append(os.dup(0))\n"
        "    except OSError: break\n"
        "assert not heart.beat()\n"
        "for each in taken: os.close(each)\n"
        "assert heart.beat()\n"
    )
    done = subprocess.run([sys.executable, script, url], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_a_process_whose_work_stands_still_does_not_beat_and_is_well_again_by_itself(url: str):
    alive = iter([True, False, True])
    beating = heart(url, alive=lambda: next(alive))
    with capture_logs() as logs:
        assert [beating.beat() for _ in range(3)] == [True, False, True]
    assert [each.get("error") for each in logs] == ["its own work stands still", None]


def test_a_heart_survives_whatever_happens():
    def fails() -> Ledger:
        raise MemoryError("no memory")

    with capture_logs() as logs:
        assert not Heart(WORKER, fails, lambda: True).beat()
    assert logs[0]["error"] == "MemoryError: no memory"


def test_an_end_does_not_wait_for_a_ledger_that_hangs():
    release = threading.Event()

    def hangs() -> Ledger:
        release.wait(60)
        raise RuntimeError

    beating = Heart(WORKER, hangs, lambda: True)
    beating.start()
    began = time.monotonic()
    beating.stop()
    assert time.monotonic() - began < 30
    release.set()
    beating._thread.join()


def test_the_silent_are_forgotten_after_an_hour_and_no_other(url: str):
    clock = ManualClock()
    with closing(Ledger(url, clock=clock)) as ledger:
        ledger.transact(lambda tx: see(tx, WORKER))
        clock.advance(3500)
        with ledger.begin(read_only=True) as tx:
            assert [each["silent"] for each in present(tx)] == [3500]
        assert ledger.transact(forget_unseen) == 0
        clock.advance(101)
        assert ledger.transact(forget_unseen) == 1


# --- the pulse -----------------------------------------------------------------------------------------------------------


def test_a_pulse_is_seen_on_this_machine_until_it_ends(tmp_path: Path):
    mine = Pulse(tmp_path, Role.BEAT)
    mine.beat()
    assert mine.file.parent == tmp_path / "health"
    assert re.fullmatch(rf"beat@{socket.gethostname()}:{os.getpid()}(:[0-9]+)?", mine.file.name)
    assert stat.S_IMODE(mine.file.stat().st_mode) == 0o600
    [found] = pulse.seen(tmp_path, Role.BEAT)
    assert found.pid == os.getpid()
    assert found.is_fresh(60)
    assert pulse.seen(tmp_path, Role.WORKER) == []
    mine.end()
    assert pulse.seen(tmp_path, Role.BEAT) == []


def test_a_pulse_needs_neither_room_nor_a_descriptor_once_it_is_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    mine = Pulse(tmp_path, Role.BEAT)
    mine.beat()
    os.utime(mine.file, (0, 0))

    def none(*_: object, **__: object) -> int:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(time, "monotonic", lambda: 1e9)
    with monkeypatch.context() as patch:
        for name in ("open", "mkdir", "listdir", "scandir"):
            patch.setattr(os, name, none)
        mine.beat()
    assert pulse.age(tmp_path, Role.BEAT, os.getpid()) < 60  # type: ignore[operator]


def test_what_others_left_behind_is_not_taken_for_a_process_and_removed(tmp_path: Path):
    folder = tmp_path / "health"
    folder.mkdir()
    dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True, check=True)
    left = folder / f"worker@{socket.gethostname()}:{int(dead.stdout)}"
    elsewhere, strange = folder / "worker@another-host:1", folder / "notes.txt"
    for file in (left, elsewhere, strange):
        file.touch()
    assert pulse.seen(tmp_path, Role.WORKER) == []
    mine = Pulse(tmp_path, Role.WORKER)
    mine.beat()
    assert sorted(folder.iterdir()) == sorted([elsewhere, strange, mine.file])


@pytest.mark.parametrize("pid", ["0", "00", "-1", "1", "{mine}", "{mine}:1", "9999999999", "99999999999"])
def test_a_name_alone_is_no_pulse(tmp_path: Path, pid: str):
    """Of no process, of a group of them, or of one that has the id of another."""
    if not Path("/proc/self/stat").exists():
        pytest.skip("this system does not say when a process began")
    folder = tmp_path / "health"
    folder.mkdir()
    (folder / f"worker@{socket.gethostname()}:{pid.format(mine=os.getpid())}").touch()
    assert pulse.seen(tmp_path, Role.WORKER) == []
    assert pulse.age(tmp_path, Role.WORKER, os.getpid()) is None


def test_a_process_whose_name_is_not_plain_has_a_pulse(tmp_path: Path):
    """/proc/PID/stat holds the program's name as it is: with blanks and brackets."""
    program = tmp_path / "a) R 1 (b"
    program.symlink_to(shutil.which("sleep") or "/bin/sleep")
    with subprocess.Popen([program, "60"]) as process:
        try:
            until(lambda: b"a) R 1 (b" in Path(f"/proc/{process.pid}/stat").read_bytes())
            assert int(pulse._began(process.pid) or 0) >= int(pulse._began(os.getpid()) or 0)
        finally:
            process.kill()


def test_a_pulse_that_leads_elsewhere_is_none_and_nothing_there_is_touched(tmp_path: Path):
    mine = Pulse(tmp_path, Role.WORKER)
    precious, missing = tmp_path / "precious", tmp_path / "missing"
    precious.touch()
    os.utime(precious, (1, 1))
    mine.file.parent.mkdir()
    for target in (precious, missing):
        mine.file.symlink_to(target)
        mine._due = 0.0
        mine.beat()
        assert pulse.seen(tmp_path, Role.WORKER) == []
        mine.end()
    assert precious.stat().st_mtime == 1
    assert not missing.exists()


def test_a_place_that_takes_no_pulse_is_told_once(tmp_path: Path):
    (tmp_path / "health").write_text("not a folder")
    mine = Pulse(tmp_path, Role.INTAKE)
    with capture_logs() as logs:
        for _ in range(3):
            mine._due = 0.0
            mine.beat()
        (tmp_path / "health").unlink()
        mine._due = 0.0
        mine.beat()
    assert [each["event"] for each in logs] == ["no pulse: this process counts as stuck", "the pulse is back"]


def test_a_fork_leaves_its_parents_pulse_alone(tmp_path: Path):
    mine = Pulse(tmp_path, Role.WORKER)
    mine.beat()
    if (child := os.fork()) == 0:
        mine.end()
        os._exit(0)
    os.waitpid(child, 0)
    assert mine.file.exists()
