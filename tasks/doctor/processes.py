"""Who is alive: what the ledger knows of processes, beside what this machine knows of its own."""

from __future__ import annotations

from dataclasses import dataclass, field
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
RESTART = "restart it: what it had in hand comes again; one that a signal stopped hears only kill -KILL, or kill -CONT to go on"


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What this machine knows of its own processes: the ages of their liveness files, by role and pid, and which pids run."""

    host: str
    ages: Mapping[tuple[str, int], float] = field(default_factory=dict)
    runs: Callable[[int], bool] = is_running

    @classmethod
    def of(cls, state_dir: Path) -> Machine:
        """Look at the liveness files in a state directory."""
        ages = {(str(role), each.pid): each.age for role in Role for each in find_processes(state_dir, role)}
        return cls(host=gethostname(), ages=ages)

    def lacks(self, host: str, pid: int) -> bool:
        """Tell whether this process was one of this machine, and is gone."""
        return host == self.host and not self.runs(pid)


@dataclass(kw_only=True)
class _Muster:
    """The processes of one role, each called `host:pid` by the pid that its supervisor knows; seconds without a sign."""

    alive: list[str] = field(default_factory=list)
    serves: set[str] = field(default_factory=set)
    frozen: list[str] = field(default_factory=list)
    mute: list[str] = field(default_factory=list)
    beginning: list[str] = field(default_factory=list)
    ended: list[tuple[float, str]] = field(default_factory=list)


def processes(rows: Sequence[Mapping[str, Any]], machine: Machine, *, within: float = STALE_AFTER) -> Iterator[Finding]:
    """Judge who is alive: workers that take every queue, and a beat; an intake may be left out. More of them are fine."""
    for role in Role:
        found = _muster(role, [row for row in rows if row["role"] == role], machine, within)
        if role is not Role.INTAKE or found.alive or found.frozen or found.mute:
            yield _judged(role, found)
        if role is Role.WORKER and found.alive and (idle := sorted(frozenset(CELERY_QUEUES) - found.serves)):
            hint = "start a worker with these --queues; one without --queues takes all"
            yield Finding(name=role, state=State.WRONG, detail=f"no worker takes {join_names(idle)}", hint=hint)


def _muster(role: Role, rows: Sequence[Mapping[str, Any]], machine: Machine, within: float) -> _Muster:
    found = _Muster()
    by_main: dict[tuple[str, int], list[Mapping[str, Any]]] = {}
    for row in rows:
        host, main = row["host"], row["main_pid"]
        if machine.lacks(host, main) or machine.lacks(host, row["pid"]):
            found.ended.append((row["silent"], f"{host}:{main}"))
        else:
            by_main.setdefault((host, main), []).append(row)
    mine = {pid: age for (whose, pid), age in machine.ages.items() if whose == role}
    for main in mine:
        by_main.setdefault((machine.host, main), [])
    for (host, main), its in sorted(by_main.items()):
        _sort_in(found, host, main, its, age=mine.get(main) if host == machine.host else None, within=within)
    return found


def _sort_in(
    found: _Muster, host: str, main: int, rows: Sequence[Mapping[str, Any]], *, age: float | None, within: float
) -> None:
    silent = min((row["silent"] for row in rows), default=None)
    if age is not None and abs(age) > within:
        found.frozen.append(f"process {main} for {abs(age):.0f} s")
    elif silent is not None and silent <= within:
        found.alive.append(f"{host}:{main}")
        found.serves.update(*(row["serves"] for row in rows if row["silent"] <= within))
    elif silent is None:
        found.beginning.append(f"process {main}")
    elif age is not None:
        found.mute.append(f"process {main} for {silent:.0f} s")
    else:
        found.ended.append((silent, f"{host}:{main}"))


def _judged(role: Role, found: _Muster) -> Finding:
    alive = f"{len(found.alive)} alive: {', '.join(found.alive)}"
    others = f"; {alive}" if found.alive else ""
    if found.frozen:
        return _wrong(role, f"stands still: {join_names(found.frozen)}{others}", RESTART)
    if found.mute:
        hint = "its work hangs or cannot write to the ledger: see the ledger's lines here; where they are well, restart it"
        return _wrong(role, f"live, but without a heartbeat in the ledger: {join_names(found.mute)}{others}", hint)
    if found.alive:
        return Finding(name=role, detail=alive)
    if found.beginning:
        hint = "it begins, or waits for the ledger: ask again in some seconds, then see its log"
        return _wrong(role, f"live, but not yet in the ledger: {join_names(found.beginning)}", hint)
    detail = "none runs"
    if found.ended:
        silent, who = min(found.ended)
        detail += f"; {who} did not stop cleanly, its last sign is {format_span(silent)} old"
    return _wrong(role, detail, f"start one: {START[role]}")


def _wrong(role: Role, detail: str, hint: str) -> Finding:
    return Finding(name=role, state=State.WRONG, detail=detail, hint=hint)
