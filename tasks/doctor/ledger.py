"""Checks the ledger: that it can be read, its clock, the processes and the backlog in it, and that it takes a commit."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path
from socket import gethostname
from typing import TYPE_CHECKING

from sqlalchemy.engine import make_url

from tasks.dlq.errors import LedgerLocked, LedgerUnavailable
from tasks.dlq.ledger.backlog import read_backlog
from tasks.dlq.ledger.processes import list_processes, record_heartbeat, remove_process
from tasks.dlq.process import Process, Role
from tasks.doctor.findings import Finding, State, of_error
from tasks.doctor.machine import check_disk
from tasks.doctor.processes import Machine, judge_processes
from tasks.doctor.work import OVERDUE, judge_backlog, judge_calls, judge_routes
from tasks.ledger_setup import open_ledger

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tasks.dlq.ledger import Ledger, Transaction
    from tasks.settings import Settings

#: Seconds by which the clocks of the database and of this machine may differ.
_MAX_DIFFERENCE = 5.0
#: Seconds that the commit waits for SQLite's write lock; other processes hold it for milliseconds.
_LOCK_WAIT = 3.0


def check_ledger(settings: Settings) -> Iterator[Finding]:
    """Check the ledger. The commit comes last: it may wait for another writer, and reading does not.

    Raises:
        RedriveError: as `open_ledger`.
    """
    url = make_url(settings.ledger.url)
    file = url.database if url.get_backend_name() == "sqlite" else None
    with open_ledger(settings) as ledger:
        before = time.time()
        with ledger.begin(read_only=True) as tx:
            heartbeats, backlog = list_processes(tx), read_backlog(tx, lately=OVERDUE)
        between = (before + time.time()) / 2
        yield Finding(name="ledger", detail=f"{url.render_as_string(hide_password=True)} answers, its schema is up to date")
        if file:
            yield check_disk("ledger's disk", Path(file).parent)
        yield judge_clock(backlog.now / 1000 - between)
        machine = Machine.of(settings.state_path)
        yield from judge_processes(machine.view(heartbeats))
        yield from judge_routes(backlog, settings.routes)
        yield from judge_backlog(backlog, settings.routes)
        yield from judge_calls(backlog, machine)
        yield check_commit(ledger)


def check_commit(ledger: Ledger) -> Finding:
    """Write a row and remove it again: a commit of changed pages."""
    mine = Process(role=Role.WORKER, host=f"doctor.{gethostname()}", pid=os.getpid(), main_pid=os.getpid(), version="")

    def write(tx: Transaction) -> None:
        record_heartbeat(tx, mine)
        remove_process(tx, mine)

    name = "ledger's commit"
    try:
        if ledger.engine.dialect.name == "sqlite":
            with ledger.begin(read_only=True) as tx:  # the pool has one connection: the next transaction uses it, too
                tx.connection.exec_driver_sql(f"PRAGMA busy_timeout = {round(_LOCK_WAIT * 1000)}")
        ledger.check_disk_space()
        ledger.transact(write)
    except LedgerLocked as error:
        return replace(of_error(name, error), detail=f"another process has held the write lock for {_LOCK_WAIT:g} s")
    except LedgerUnavailable as error:
        return of_error(name, error)
    return Finding(name=name, detail="a test commit reached the disk")


def judge_clock(ahead: float) -> Finding:
    """Judge how far the database's clock is ahead of this machine's."""
    detail = f"the database's is {abs(ahead):.1f} s {'ahead of' if ahead > 0 else 'behind'} this machine's"
    if abs(ahead) <= _MAX_DIFFERENCE:
        return Finding(name="clock", detail=detail)
    hint = "due times follow the database's clock: synchronise both machines, for example with chrony"
    return Finding(name="clock", state=State.WARNING, detail=detail, hint=hint)
