"""Liveness files: what a health check reads from them, and what they need."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from socket import gethostname
from typing import TYPE_CHECKING

import pytest
from structlog.testing import capture_logs

from tasks.adapters.liveness import LivenessFile, find_processes
from tasks.dlq.process import Role

if TYPE_CHECKING:
    from pathlib import Path

HOUR = 3600


def pids(state_dir: Path, role: Role = Role.WORKER) -> list[int]:
    return [process.pid for process in find_processes(state_dir, role)]


def test_a_process_is_found_on_this_machine_until_it_ends(tmp_path: Path):
    file = LivenessFile(tmp_path, Role.BEAT)
    file.touch()
    assert file.path == tmp_path / "health" / f"beat@{gethostname()}:{os.getpid()}"
    assert file.path.stat().st_mode & 0o777 == 0o600
    [found] = find_processes(tmp_path, Role.BEAT)
    assert found.pid == os.getpid()
    assert found.is_fresh(60)
    assert pids(tmp_path, Role.WORKER) == []
    file.remove()
    assert pids(tmp_path, Role.BEAT) == []


@pytest.mark.parametrize("seconds", [-120, 120])
def test_an_old_time_and_one_in_the_future_are_not_fresh(tmp_path: Path, seconds: int):
    file = LivenessFile(tmp_path, Role.WORKER)
    file.touch()
    os.utime(file.path, (time.time() + seconds,) * 2)
    [found] = find_processes(tmp_path, Role.WORKER)
    assert not found.is_fresh(60)


def test_an_existing_file_needs_neither_disk_space_nor_a_descriptor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    file = LivenessFile(tmp_path, Role.BEAT)
    file.touch()
    os.utime(file.path, (0, 0))

    def none(*_: object, **__: object) -> int:
        raise OSError(24, "Too many open files")

    with monkeypatch.context() as patch:
        for name in ("open", "mkdir", "listdir", "scandir"):
            patch.setattr(os, name, none)
        file.touch()
    assert (file.age() or HOUR) < 60


def test_a_dead_process_and_a_reused_id_are_not_found(tmp_path: Path):
    dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True, check=True)
    LivenessFile(tmp_path, Role.WORKER, int(dead.stdout)).touch()
    reused = LivenessFile(tmp_path, Role.WORKER, os.getppid())
    reused.touch()
    os.utime(reused.path, (time.time() - HOUR - 1,) * 2)
    assert pids(tmp_path) == []


def test_old_files_are_removed_when_a_process_starts(tmp_path: Path):
    folder = tmp_path / "health"
    folder.mkdir()
    old, elsewhere, note = folder / f"worker@{gethostname()}:7", folder / "worker@another-host:1", folder / "notes.txt"
    for path in (old, elsewhere, note):
        path.touch()
    for path in (old, note):
        os.utime(path, (time.time() - HOUR - 1,) * 2)
    mine = LivenessFile(tmp_path, Role.WORKER)
    mine.touch()
    assert sorted(folder.iterdir()) == sorted([elsewhere, note, mine.path])


@pytest.mark.parametrize("pid", ["0", "00", "-1", "", "1x", "9999999999", "99999999999999999999"])
def test_a_name_without_the_id_of_a_process_is_skipped(tmp_path: Path, pid: str):
    (tmp_path / "health").mkdir()
    (tmp_path / "health" / f"worker@{gethostname()}:{pid}").touch()
    assert pids(tmp_path) == []


def test_a_file_that_cannot_be_made_is_logged_once(tmp_path: Path):
    (tmp_path / "health").write_text("not a directory")
    file = LivenessFile(tmp_path, Role.INTAKE)
    with capture_logs() as logs:
        for _ in range(3):
            file.touch()
        (tmp_path / "health").unlink()
        file.touch()
    assert [each["event"] for each in logs] == ["liveness_lost", "liveness_restored"]
