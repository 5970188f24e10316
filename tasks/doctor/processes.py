"""Judges which processes run: by their heartbeats in the ledger, and on this machine also by their liveness files."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from enum import StrEnum
from socket import gethostname
from typing import TYPE_CHECKING, Any

from tasks.adapters.liveness import find_processes, is_running
from tasks.dlq.process import STALE_AFTER, Role
from tasks.dlq.text import format_span, join_names
from tasks.doctor.findings import Finding, State
from tasks.names import CELERY_QUEUES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

#: How a process of each role is started.
START = {Role.WORKER: "celery -A tasks worker", Role.BEAT: "celery -A tasks beat", Role.INTAKE: "redrive intake"}
RESTART = "restart it: no work is lost; a process that a signal stopped needs kill -KILL, or kill -CONT to continue"


class ProcessState(StrEnum):
    """The state of a process."""

    RUNNING = "running"
    #: Its liveness file is old: the main loop hangs.
    STUCK = "stuck"
    #: Its main loop runs, but its heartbeat in the ledger is old.
    SILENT = "silent"
    #: Its main loop runs, and the ledger has no heartbeat of it yet.
    STARTING = "starting"
    #: It ended without removing its heartbeat.
    ENDED = "ended"


@dataclass(frozen=True, kw_only=True)
class ProcessView:
    """A process as its supervisor knows it: a worker and its pool are one process."""

    role: Role
    host: str
    pid: int
    #: Seconds since its main loop touched the liveness file; None if this machine has no such file.
    loop_age: float | None
    #: Seconds since the last heartbeat of a process of it that still runs; None if there is none.
    silent: float | None
    #: Seconds since the last heartbeat of any process of it; None if there is none.
    last_seen: float | None
    #: The queues or sources that it takes work from.
    serves: frozenset[str]

    @property
    def name(self) -> str:
        """Its host and process id."""
        return f"{self.host}:{self.pid}"

    def judge(self, within: float) -> ProcessState:
        """Return its state; a sign of life may be `within` seconds old."""
        if self.loop_age is not None and abs(self.loop_age) > within:
            return ProcessState.STUCK
        if self.silent is not None and self.silent <= within:
            return ProcessState.RUNNING
        if self.loop_age is None:
            return ProcessState.ENDED
        return ProcessState.STARTING if self.silent is None else ProcessState.SILENT


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What this machine knows about its own processes."""

    host: str
    #: The ages of their liveness files in seconds, by role and process id.
    ages: Mapping[tuple[str, int], float] = field(default_factory=dict)
    #: Whether a process id is in use.
    runs: Callable[[int], bool] = is_running

    @classmethod
    def of(cls, state_dir: Path) -> Machine:
        """Read the liveness files in a state directory."""
        ages = {(str(role), found.pid): found.age for role in Role for found in find_processes(state_dir, role)}
        return cls(host=gethostname(), ages=ages)

    def has_ended(self, host: str, pid: int) -> bool:
        """Tell whether a process was on this machine, and has ended."""
        return host == self.host and not self.runs(pid)

    def view(self, heartbeats: Sequence[Mapping[str, Any]] = ()) -> list[ProcessView]:
        """Return all processes: of the heartbeats (`list_processes`), and of this machine's liveness files."""
        rows: dict[tuple[str, str, int], list[Mapping[str, Any]]] = defaultdict(list)
        for row in heartbeats:
            rows[row["role"], row["host"], row["main_pid"]].append(row)
        for role, pid in self.ages:
            rows.setdefault((role, self.host, pid), [])
        return [self._view_one(Role(role), host, pid, rows[role, host, pid]) for role, host, pid in sorted(rows)]

    def _view_one(self, role: Role, host: str, pid: int, rows: Sequence[Mapping[str, Any]]) -> ProcessView:
        running = [row for row in rows if not (self.has_ended(host, pid) or self.has_ended(host, row["pid"]))]
        return ProcessView(
            role=role,
            host=host,
            pid=pid,
            loop_age=self.ages.get((role, pid)) if host == self.host else None,
            silent=min((row["silent"] for row in running), default=None),
            last_seen=min((row["silent"] for row in rows), default=None),
            serves=frozenset(name for row in running for name in row["serves"]),
        )


def judge_processes(processes: Sequence[ProcessView], *, within: float = STALE_AFTER) -> Iterator[Finding]:
    """Check that workers which take every queue and a beat run. An intake is optional; more of each are fine."""
    for role in Role:
        states: dict[ProcessState, list[ProcessView]] = defaultdict(list)
        for process in processes:
            if process.role is role:
                states[process.judge(within)].append(process)
        if role is not Role.INTAKE or states.keys() & {ProcessState.RUNNING, ProcessState.STUCK, ProcessState.SILENT}:
            yield _judge_role(role, states)
        workers = states[ProcessState.RUNNING] if role is Role.WORKER else []
        if workers and (unserved := sorted(frozenset(CELERY_QUEUES).difference(*(worker.serves for worker in workers)))):
            hint = "start a worker with these --queues; one without --queues takes all"
            yield Finding(name=role, state=State.WRONG, detail=f"no worker takes {join_names(unserved)}", hint=hint)


def _judge_role(role: Role, states: Mapping[ProcessState, Sequence[ProcessView]]) -> Finding:
    """Return the finding on the processes of a role, by their states."""
    running = states.get(ProcessState.RUNNING, ())
    count = f"{len(running)} running: {', '.join(process.name for process in running)}"
    others = f"; {count}" if running else ""
    if stuck := [
        f"process {process.pid} for {abs(process.loop_age or 0):.0f} s" for process in states.get(ProcessState.STUCK, ())
    ]:
        return _wrong(role, f"stuck: {join_names(stuck)}{others}", RESTART)
    if silent := [f"process {process.pid} for {process.silent:.0f} s" for process in states.get(ProcessState.SILENT, ())]:
        hint = "its work hangs, or it cannot write to the ledger: see the ledger here; if that is ok, restart it"
        return _wrong(role, f"without a heartbeat in the ledger: {join_names(silent)}{others}", hint)
    if running:
        return Finding(name=role, detail=count)
    if starting := [f"process {process.pid}" for process in states.get(ProcessState.STARTING, ())]:
        hint = "it starts, or waits for the ledger: run this again in some seconds, then see its log"
        return _wrong(role, f"not yet in the ledger: {join_names(starting)}", hint)
    ended = [(process.last_seen, process.name) for process in states.get(ProcessState.ENDED, ()) if process.last_seen is not None]
    detail = "none runs"
    if ended:
        silence, name = min(ended)
        detail += f"; {name} did not stop cleanly, its last heartbeat was {format_span(silence)} ago"
    return _wrong(role, detail, f"start one: {START[role]}")


def _wrong(role: Role, detail: str, hint: str) -> Finding:
    return Finding(name=role, state=State.WRONG, detail=detail, hint=hint)
