"""Readiness and liveness of this machine's processes, for health checks: one question, one line, soon."""

from __future__ import annotations

from socket import gethostname
from typing import TYPE_CHECKING

from tasks.adapters.liveness import directory_of, find_processes
from tasks.dlq.errors import RedriveError
from tasks.doctor.findings import Finding, State
from tasks.doctor.processes import RESTART, START

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tasks.adapters.liveness import LocalProcess
    from tasks.dlq.process import Role
    from tasks.settings import Settings

_WAITS = "do not restart it: it waits for a commit to the ledger, and comes back by itself; what is missing tells: redrive doctor"


def live(settings: Settings, role: Role, *, within: float) -> Finding:
    """Tell whether the main loop of every process of the role on this machine goes on. Asks nobody else."""
    where = directory_of(settings.state_path).absolute()
    return judge_liveness(role, find_processes(settings.state_path, role), within=within, where=str(where))


def judge_liveness(role: Role, found: Sequence[LocalProcess], *, within: float, where: str) -> Finding:
    """Judge the liveness files of one role on one machine."""
    if not found:
        return _red(f"no {role} runs here: {where} has no liveness file of one on {gethostname()}", f"start one: {START[role]}")
    if stuck := [each for each in found if not each.is_fresh(within)]:
        said = ", ".join(f"process {each.pid} for {each.age:.0f} s" for each in stuck)
        return _red(f"{role} stands still: {said}", RESTART)
    return Finding(name="live", detail=f"{role} is live: {_pids(found)}")


def ready(settings: Settings, role: Role, *, within: float) -> Finding:
    """Tell whether each of them is live, and its work has noted in the ledger that it goes on."""
    found = find_processes(settings.state_path, role)
    alive = live(settings, role, within=within)
    if alive.state is not State.OK:
        return alive
    from tasks.dlq.ledger.processes import list_processes
    from tasks.ledger_setup import open_ledger

    try:
        with open_ledger(settings) as ledger, ledger.begin(read_only=True) as tx:
            rows = list_processes(tx)
    except RedriveError as error:
        return _red(f"{role} is not ready: {error.message}", "; ".join(filter(None, [_WAITS, error.hint])))
    return judge_heartbeats(role, found, [row for row in rows if row["host"] == gethostname()], within=within)


def judge_heartbeats(
    role: Role, found: Sequence[LocalProcess], rows: Sequence[Mapping[str, object]], *, within: float
) -> Finding:
    """Judge by the ledger's rows of this machine: each process with a liveness file needs a fresh one, a worker from its pool."""
    silences: dict[object, float] = {}
    for row in rows:
        if row["role"] == role:
            silent = float(str(row["silent"]))
            silences[row["main_pid"]] = min(silent, silences.get(row["main_pid"], silent))
    for each in found:
        if each.pid not in silences:
            return _red(f"{role} is not ready: process {each.pid} has no heartbeat in the ledger", _WAITS)
        if silences[each.pid] > within:
            silence = f"process {each.pid} has had no heartbeat for {silences[each.pid]:.0f} s"
            return _red(f"{role} is not ready: {silence}", _WAITS)
    return Finding(name="ready", detail=f"{role} is ready: {_pids(found)}")


def _red(detail: str, hint: str) -> Finding:
    return Finding(name="health", state=State.WRONG, detail=detail, hint=hint)


def _pids(found: Sequence[LocalProcess]) -> str:
    return ", ".join(f"process {each.pid}" for each in found)
