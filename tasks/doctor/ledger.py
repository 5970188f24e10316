"""What the ledger says: whether it takes a commit, its clock, and what it knows of processes and work."""

from __future__ import annotations

import os
import time
from dataclasses import replace
from pathlib import Path
from socket import gethostname
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select
from sqlalchemy.engine import make_url

from tasks.dlq.errors import LedgerOutdated, LedgerUnavailable
from tasks.dlq.job import WAITING
from tasks.dlq.ledger.claims import is_due
from tasks.dlq.ledger.engine import LOST
from tasks.dlq.ledger.processes import list_processes, record_heartbeat, remove_process
from tasks.dlq.ledger.schema import attempts, dead_letters, executing, jobs
from tasks.dlq.ledger.schema import routes as route_table
from tasks.dlq.process import Process, Role
from tasks.doctor.findings import Finding, State, of_error
from tasks.doctor.lock import advice, holder
from tasks.doctor.machine import room
from tasks.doctor.processes import Machine, processes
from tasks.doctor.work import Call, RouteWork, Work, backlog, calls, routes
from tasks.ledger_setup import open_ledger

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy import Row

    from tasks.dlq.ledger import Ledger, Transaction
    from tasks.settings import Settings

#: Seconds by which the clocks of the database and of this machine may differ, before it is told.
_CLOCK = 5.0
#: Seconds that the commit waits for SQLite's write lock; others hold it for milliseconds.
_LOCK_WAIT = 3.0


def check_ledger(settings: Settings) -> Iterator[Finding]:
    """Look into the ledger: first what can be read, which waits for no writer; the commit comes last.

    Raises:
        LedgerUnavailable: it does not answer.
        LedgerOutdated: it is not there, or not of this version's schema.
    """
    url = make_url(settings.ledger.url)
    file = url.database if url.get_backend_name() == "sqlite" else None
    try:
        with open_ledger(settings) as ledger:
            before = time.time()
            known, work = _read(ledger, settings)
            between = (before + time.time()) / 2
            yield Finding(name="ledger", detail=f"{url.render_as_string(hide_password=True)} answers, its schema is up to date")
            if file:
                yield room("ledger's disk", Path(file).parent)
            yield clock(work.now / 1000 - between)
            machine = Machine.of(settings.state_path)
            yield from processes(known, machine)
            yield from routes(work.routes)
            yield from backlog(work)
            yield from calls(work, machine)
            yield _commit(ledger, file)
    except LedgerOutdated as error:
        finding = of_error("ledger", error)
        nothing = error.message.startswith("there is no ledger at") or error.message.endswith(" is empty")
        yield replace(finding, hint=f"{LOST}; else {error.hint}") if nothing and LOST not in error.hint else finding


def _read(ledger: Ledger, settings: Settings) -> tuple[list[dict[str, Any]], Work]:
    """Return the processes that the ledger knows, and the work that it has."""
    with ledger.begin(read_only=True) as tx:
        now = tx.now()
        found = tx.connection.execute(select(route_table).order_by(route_table.c.name)).all()
        in_hand = select(attempts.c.worker, jobs.c.lease_until).join(jobs, jobs.c.token == attempts.c.token).where(executing)
        return list_processes(tx), Work(
            now=now,
            routes=[_route(tx, row, now, configured=row.name in settings.routes) for row in found],
            calls=[Call(worker=row.worker, lease_until=row.lease_until) for row in tx.connection.execute(in_hand)],
            waiting=_count(tx, jobs.c.state.in_(WAITING)),
            parked=_count(tx, jobs.c.state == "parked"),
            rejected=_count(tx, dead_letters.c.reject_reason.is_not(None)),
        )


def _route(tx: Transaction, row: Row[Any], now: int, *, configured: bool) -> RouteWork:
    first = select(jobs.c.due_at).where(is_due(row.name, now)).order_by(jobs.c.due_at).limit(1)
    return RouteWork(
        name=row.name,
        configured=configured,
        paused=row.paused_at is not None,
        paused_by=row.paused_by,
        pause_reason=row.pause_reason,
        breaker_open=row.breaker_open,
        not_before=row.not_before,
        last_call=row.fence,  # it is never behind the time of the claim that it was given to
        oldest_due=tx.connection.scalar(first),
    )


def _count(tx: Transaction, where: Any) -> int:
    return tx.connection.scalars(select(func.count()).where(where)).one()


def _commit(ledger: Ledger, file: str | None) -> Finding:
    """Write a row and take it away again: a commit of pages that changed."""
    mine = Process(role=Role.WORKER, host=f"doctor.{gethostname()}", pid=os.getpid(), main_pid=os.getpid(), version="")

    def work(tx: Transaction) -> None:
        record_heartbeat(tx, mine)
        remove_process(tx, mine)

    name = "ledger's commit"
    try:
        if file:
            with ledger.begin(read_only=True) as tx:  # the pool has but this connection: the next transaction has it, too
                tx.connection.exec_driver_sql(f"PRAGMA busy_timeout = {round(_LOCK_WAIT * 1000)}")
        ledger.check_disk_space()
        ledger.transact(work)
    except LedgerUnavailable as error:
        finding = of_error(name, error)
        if not file or not error.message.endswith("is locked"):
            return finding
        detail, hint = advice(file, holder(file))
        return replace(finding, detail=f"not within {_LOCK_WAIT:g} s: {detail}", hint=hint)
    return Finding(name=name, detail="a commit reached the disk, and left nothing behind")


def clock(ahead: float) -> Finding:
    """Judge how far the database's clock is ahead of this machine's."""
    detail = f"the database's is {abs(ahead):.1f} s {'ahead of' if ahead > 0 else 'behind'} this machine's"
    if abs(ahead) <= _CLOCK:
        return Finding(name="clock", detail=detail)
    hint = "due times follow the database's: have both machines' slewed by chrony"
    return Finding(name="clock", state=State.WARNING, detail=detail, hint=hint)
