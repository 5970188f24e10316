"""The rows of running processes."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from doubles.manual_clock import ManualClock
from ledger_bench import URLS, a_database

from tasks.dlq.ledger import Ledger
from tasks.dlq.ledger.processes import list_processes, record_heartbeat, remove_old_processes
from tasks.dlq.process import Process, Role

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("database", URLS)
def test_rows_are_removed_after_an_hour_without_a_heartbeat(database: str, tmp_path: Path):
    clock = ManualClock()
    worker = Process(role=Role.WORKER, host="node-1", pid=71, main_pid=70, version="0.1.0")
    with a_database(database, tmp_path) as url, closing(Ledger(url, clock=clock)) as ledger:
        ledger.transact(lambda tx: record_heartbeat(tx, worker))
        clock.advance(3500)
        with ledger.begin(read_only=True) as tx:
            assert [each["silent"] for each in list_processes(tx)] == [3500]
        assert ledger.transact(remove_old_processes) == 0
        clock.advance(101)
        assert ledger.transact(remove_old_processes) == 1
