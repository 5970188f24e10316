"""What the ledger says: whether it takes a commit, its clock, who is alive, what holds work up."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, select
from sqlalchemy.engine import make_url

from tasks.adapters.pulse import here
from tasks.cli.doctor.findings import Finding, State
from tasks.cli.doctor.machine import room
from tasks.cli.session import existing_ledger
from tasks.cli.text import counted, listed, span
from tasks.dlq.job import WAITING
from tasks.dlq.ledger.processes import forget, present, see
from tasks.dlq.ledger.queries import route_states
from tasks.dlq.process import FRESH, Process, Role
from tasks.dlq.schema import dead_letters, jobs

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from tasks.dlq.ledger import Ledger, Transaction
    from tasks.settings import Settings

#: Seconds by which the clocks of the database and of this machine may differ, before it is told.
_CLOCK = 5.0
#: Seconds for which a job may be due, before it is told: the sweeps come far more often.
_OVERDUE = 300.0


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What is in the ledger at one moment; times are milliseconds by its clock."""

    now: int
    processes: Sequence[Mapping[str, Any]]
    routes: Sequence[Mapping[str, Any]]
    oldest_due: int | None
    waiting: int
    parked: int
    rejected: int


def check_ledger(settings: Settings) -> Iterator[Finding]:
    """Look into the ledger.

    Raises:
        OutOfReach: it does not answer, or is not of this version's schema.
    """
    url = make_url(settings.ledger.url)
    with existing_ledger() as ledger:
        before = time.time()
        contents = _read(ledger)
        between = (before + time.time()) / 2
        yield Finding(name="ledger", detail=f"{url.render_as_string(hide_password=True)} answers, its schema is up to date")
        _commit(ledger)
        yield Finding(name="ledger's commit", detail="a commit reached the disk, and left nothing behind")
    if url.get_backend_name() == "sqlite" and url.database:
        yield room("ledger's disk", Path(url.database).parent)
    yield clock(contents.now / 1000 - between)
    yield from processes(contents.processes)
    yield from routes([each for each in contents.routes if each["route"] in settings.routes])
    yield from backlog(contents)


def _read(ledger: Ledger) -> Contents:
    with ledger.begin(read_only=True) as tx:
        return Contents(
            now=tx.now(),
            processes=present(tx),
            routes=route_states(tx),
            oldest_due=tx.connection.scalar(select(func.min(jobs.c.due_at)).where(jobs.c.state.in_(WAITING))),
            waiting=_count(tx, jobs.c.state.in_(WAITING)),
            parked=_count(tx, jobs.c.state == "parked"),
            rejected=_count(tx, dead_letters.c.reject_reason.is_not(None)),
        )


def _count(tx: Transaction, where: Any) -> int:
    return tx.connection.scalars(select(func.count()).where(where)).one()


def _commit(ledger: Ledger) -> None:
    """Write a row and take it away again: a commit of pages that changed."""
    mine = Process(role=Role.WORKER, host=f"doctor.{here()}", pid=os.getpid(), main_pid=os.getpid(), version="")

    def work(tx: Transaction) -> None:
        see(tx, mine)
        forget(tx, mine)

    ledger.check_room()
    ledger.transact(work)


def clock(ahead: float) -> Finding:
    """Judge how far the database's clock is ahead of this machine's."""
    detail = f"the database's is {abs(ahead):.1f} s {'ahead of' if ahead > 0 else 'behind'} this machine's"
    if abs(ahead) <= _CLOCK:
        return Finding(name="clock", detail=detail)
    hint = "due times follow the database's: have both machines' slewed by chrony"
    return Finding(name="clock", state=State.WARNING, detail=detail, hint=hint)


def processes(rows: Sequence[Mapping[str, Any]], *, within: float = FRESH) -> Iterator[Finding]:
    """Judge who is alive: workers that take every queue, and a beat. More of them are fine."""
    fresh = [row for row in rows if row["silent"] <= within]
    workers = [row for row in fresh if row["role"] == Role.WORKER]
    yield _alive(Role.WORKER, workers, rows, "start one: celery -A tasks worker")
    if workers and (idle := sorted(_QUEUES - {queue for row in workers for queue in row["serves"]})):
        hint = "start a worker with these --queues; one without --queues takes all"
        yield Finding(name="worker", state=State.WRONG, detail=f"no worker takes {listed(idle)}", hint=hint)
    yield _alive(Role.BEAT, [row for row in fresh if row["role"] == Role.BEAT], rows, "start one: celery -A tasks beat")
    intakes = [row for row in fresh if row["role"] == Role.INTAKE]
    if intakes:
        yield _alive(Role.INTAKE, intakes, rows, "")


_QUEUES = frozenset({"redrive-recovery", "redrive-submit", "redrive-maintenance"})


def _alive(role: Role, fresh: Sequence[Mapping[str, Any]], rows: Sequence[Mapping[str, Any]], hint: str) -> Finding:
    if fresh:
        places = ", ".join(f"{row['host']}:{row['pid']}" for row in fresh)
        return Finding(name=role, detail=f"{len(fresh)} alive: {places}")
    gone = [row["silent"] for row in rows if row["role"] == role]
    detail = f"none has been seen for {span(round(min(gone)))}" if gone else "none has been seen"
    return Finding(name=role, state=State.WRONG, detail=detail, hint=hint)


def routes(states: Sequence[Mapping[str, Any]]) -> Iterator[Finding]:
    """Tell what holds a route up."""
    for each in states:
        name = each["route"]
        if each["paused"]:
            detail = f"paused by {each['paused_by']}: {each['pause_reason'] or 'no reason given'}"
            yield Finding(name=f"route {name}", state=State.WARNING, detail=detail, hint=f"run: redrive resume {name}")
        elif each["breaker"] == "open":
            detail = "the breaker is open: the API failed, and one call at a time probes it"
            hint = f"see to the API; then it closes by itself, or run: redrive resume {name}"
            yield Finding(name=f"route {name}", state=State.WARNING, detail=detail, hint=hint)
        else:
            yield Finding(name=f"route {name}", detail="open")


def backlog(contents: Contents) -> Iterator[Finding]:
    """Judge how long work waits, and what waits for a person."""
    late = 0.0 if contents.oldest_due is None else (contents.now - contents.oldest_due) / 1000
    due = f"the oldest has been due for {span(round(late))}" if late >= 1 else "none is due"
    held_up = [each["route"] for each in contents.routes if each["paused"] or each["breaker"] == "open"]
    detail = f"{counted(contents.waiting, 'job')} waiting, {due}"
    if late > _OVERDUE and not held_up:
        hint = "see whether a worker runs and how fast the API answers; max_in_flight lets more calls run side by side"
        yield Finding(name="backlog", state=State.WARNING, detail=detail, hint=hint)
    else:
        yield Finding(name="backlog", detail=detail)
    if contents.parked:
        hint = "look: redrive jobs --state parked; then redrive replay or redrive discard"
        yield Finding(name="parked", state=State.WARNING, detail=counted(contents.parked, "job"), hint=hint)
    if contents.rejected:
        hint = "look: redrive rejects; then redrive repair"
        yield Finding(name="rejected", state=State.WARNING, detail=counted(contents.rejected, "dead letter"), hint=hint)
