"""Liveness and readiness of this machine's processes, for health checks: one quick answer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tasks.adapters.liveness import directory_of
from tasks.dlq.errors import RedriveError
from tasks.doctor.findings import Finding, State
from tasks.doctor.processes import RESTART, START, Machine, ProcessState

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tasks.dlq.process import Role
    from tasks.doctor.processes import ProcessView
    from tasks.settings import Settings

_WAIT = "do not restart it: it cannot commit to the ledger, and recovers by itself; redrive doctor says what is missing"


def check_liveness(settings: Settings, role: Role, *, within: float) -> Finding:
    """Check that the main loop of every process of the role on this machine runs. Looks at liveness files only."""
    machine = Machine.of(settings.state_path)
    where = f"{directory_of(settings.state_path).absolute()} has no liveness file of one on {machine.host}"
    return judge_liveness(role, _of_role(role, machine.view()), within=within, where=where)


def judge_liveness(role: Role, processes: Sequence[ProcessView], *, within: float, where: str) -> Finding:
    """Judge the liveness files of a role's processes; `where` says where there are none."""
    if not processes:
        return _fail(f"no {role} runs here: {where}", f"start one: {START[role]}")
    if stuck := [process for process in processes if process.judge(within) is ProcessState.STUCK]:
        ages = ", ".join(f"process {process.pid} for {process.loop_age:.0f} s" for process in stuck)
        return _fail(f"{role} is stuck: {ages}", RESTART)
    return Finding(name="live", detail=f"{role} is live: {_list_pids(processes)}")


def check_readiness(settings: Settings, role: Role, *, within: float) -> Finding:
    """Check that each of them is live, and that its work has committed a heartbeat to the ledger."""
    found = check_liveness(settings, role, within=within)
    if found.state is not State.OK:
        return found
    from tasks.dlq.ledger.processes import list_processes
    from tasks.ledger_setup import open_ledger

    try:
        with open_ledger(settings) as ledger, ledger.begin(read_only=True) as tx:
            heartbeats = list_processes(tx)
    except RedriveError as error:
        return _fail(f"{role} is not ready: {error.message}", "; ".join(filter(None, [_WAIT, error.hint])))
    return judge_readiness(role, _of_role(role, Machine.of(settings.state_path).view(heartbeats)), within=within)


def judge_readiness(role: Role, processes: Sequence[ProcessView], *, within: float) -> Finding:
    """Judge the heartbeats of a role's processes; a worker's come from its pool."""
    for process in processes:
        if process.silent is None:
            return _fail(f"{role} is not ready: process {process.pid} has no heartbeat in the ledger", _WAIT)
        if process.silent > within:
            return _fail(f"{role} is not ready: the last heartbeat of process {process.pid} is {process.silent:.0f} s old", _WAIT)
    return Finding(name="ready", detail=f"{role} is ready: {_list_pids(processes)}")


def _of_role(role: Role, processes: Sequence[ProcessView]) -> list[ProcessView]:
    """Return the processes of a role that have a liveness file on this machine."""
    return [process for process in processes if process.role is role and process.loop_age is not None]


def _fail(detail: str, hint: str) -> Finding:
    return Finding(name="health", state=State.WRONG, detail=detail, hint=hint)


def _list_pids(processes: Sequence[ProcessView]) -> str:
    return ", ".join(f"process {process.pid}" for process in processes)
