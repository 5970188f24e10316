"""When a process of a worker has a heartbeat, and when beat and intake have one."""

from __future__ import annotations

import os
import time
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from ledger_bench import SQLITE, a_database

from tasks.adapters.liveness import LivenessFile
from tasks.dlq.process import Role
from tasks.worker import health
from tasks.worker.health import LoopHealth, PoolHealth

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def settings(tmp_path: Path) -> Iterator[Any]:
    with a_database(SQLITE, tmp_path) as url:
        yield SimpleNamespace(state_path=tmp_path, ledger=SimpleNamespace(url=url), limits=SimpleNamespace(hard=100.0))


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(health, "boottime", lambda: clock.now)
    return clock


def test_a_task_may_take_as_long_as_the_hard_limit(settings: Any, clock: SimpleNamespace):
    pool = PoolHealth(settings, os.getpid(), ["redrive-recovery"])
    assert pool.heartbeat.beat()
    pool.begin_task()
    clock.now += 100
    assert pool.heartbeat.beat()
    clock.now += 1
    assert not pool.heartbeat.beat()
    pool.end_task()
    assert pool.heartbeat.beat()


def test_the_pool_has_no_heartbeat_while_the_main_process_stands_still(settings: Any):
    pool = PoolHealth(settings, os.getpid(), [])
    main = LivenessFile(settings.state_path, Role.WORKER)
    main.touch()
    assert pool.heartbeat.beat()
    os.utime(main.path, (time.time() - 90,) * 2)
    assert not pool.heartbeat.beat()
    main.remove()
    assert pool.heartbeat.beat(), "without a file nothing is known"


def test_a_loop_keeps_its_file_while_it_turns_and_removes_it_at_the_end(settings: Any):
    loop = LoopHealth(settings, Role.BEAT)
    loop.start()
    file = LivenessFile(settings.state_path, Role.BEAT)
    os.utime(file.path, (0, 0))
    loop.note_turn()
    assert (file.age() or 90) < 60
    loop.stop()
    loop.stop()
    assert file.age() is None
