"""What the doctor makes of heartbeats and liveness files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tasks.dlq.process import Role
from tasks.doctor.findings import State
from tasks.doctor.processes import Machine, judge_processes

if TYPE_CHECKING:
    from tasks.doctor.findings import Finding

OK, WARNING, WRONG = State
QUEUES = ["redrive-maintenance", "redrive-recovery", "redrive-submit"]


def row(
    role: Role, *, pid: int = 7, silent: float = 1.0, main: int | None = None, serves: list[str] | None = None
) -> dict[str, Any]:
    """A heartbeat on machine `a`."""
    serves = QUEUES if serves is None else serves
    return {"role": role, "host": "a", "pid": pid, "main_pid": main or pid, "silent": silent, "serves": serves}


def machine(*pids: int, **ages: float) -> Machine:
    """Machine `a`, on which these process ids are in use; `worker_7=1.0` is a liveness file."""
    files = {(name.split("_")[0], int(name.split("_")[1])): age for name, age in ages.items()}
    return Machine(host="a", ages=files, runs={*pids, *(pid for _, pid in files)}.__contains__)


#: Another machine: it knows the processes on `a` by their heartbeats only.
ELSEWHERE = Machine(host="b", runs=lambda _: False)


def judge(at: Machine, *rows: dict[str, Any]) -> list[Finding]:
    return list(judge_processes(at.view(rows)))


def judge_worker(at: Machine, *rows: dict[str, Any]) -> tuple[State, str]:
    worker = next(finding for finding in judge(at, *rows) if finding.name == "worker")
    return worker.state, worker.detail


def test_processes_that_run():
    found = judge(ELSEWHERE, row(Role.WORKER), row(Role.BEAT, pid=8), row(Role.BEAT, pid=9), row(Role.INTAKE, pid=10))
    assert {finding.name: finding.state for finding in found} == {"worker": OK, "beat": OK, "intake": OK}
    assert next(finding.detail for finding in found if finding.name == "beat") == "2 running: a:8, a:9"


def test_a_pool_is_one_process():
    pool = [row(Role.WORKER, pid=70, main=7), row(Role.WORKER, pid=71, main=7)]
    assert judge_worker(machine(70, 71, worker_7=1.0), *pool) == (OK, "1 running: a:7")
    assert judge_worker(machine(71, worker_7=1.0), *pool) == (OK, "1 running: a:7"), "one child was killed"


def test_a_worker_and_a_beat_have_to_run_and_an_intake_may():
    assert {finding.name: finding.state for finding in judge(ELSEWHERE)} == {"worker": WRONG, "beat": WRONG}
    found = {finding.name: finding for finding in judge(ELSEWHERE, row(Role.WORKER, silent=61.0), row(Role.BEAT, silent=59.0))}
    assert found["worker"].state is WRONG
    assert found["worker"].detail == "none runs; a:7 did not stop cleanly, its last heartbeat was 1m ago"
    assert found["worker"].hint == "start one: celery -A tasks worker"
    assert found["beat"].state is OK


def test_a_process_of_this_machine_that_was_killed_does_not_count():
    killed = row(Role.WORKER, pid=70, main=7, silent=4.0)
    ended = "none runs; a:7 did not stop cleanly, its last heartbeat was 4s ago"
    assert judge_worker(machine(), killed) == (WRONG, ended)
    assert judge_worker(machine(80, worker_8=1.0), killed, row(Role.WORKER, pid=80, main=8)) == (OK, "1 running: a:8")
    assert judge_worker(machine()) == (WRONG, "none runs"), "a process that stopped cleanly has no row"


def test_a_process_that_is_stuck_is_named():
    stale, fine = row(Role.WORKER, pid=70, main=7, silent=63.0), row(Role.WORKER, pid=8)
    assert judge_worker(machine(70, worker_7=63.2), stale) == (WRONG, "stuck: process 7 for 63 s")
    both = judge_worker(machine(70, worker_7=63.2, worker_8=1.0), stale, fine)
    assert both == (WRONG, "stuck: process 7 for 63 s; 1 running: a:8")
    assert judge(machine(70, worker_7=63.2), stale)[0].hint.startswith("restart it")


def test_a_process_without_a_heartbeat_is_not_restarted_first():
    silent = judge(machine(70, worker_7=1.0), row(Role.WORKER, pid=70, main=7, silent=63.0))[0]
    assert (silent.state, silent.detail) == (WRONG, "without a heartbeat in the ledger: process 7 for 63 s")
    assert "see the ledger here" in silent.hint
    assert judge_worker(machine(worker_7=1.0)) == (WRONG, "not yet in the ledger: process 7")


def test_a_queue_that_no_worker_takes():
    found = judge(ELSEWHERE, row(Role.WORKER, serves=["redrive-recovery"]), row(Role.BEAT))
    wrong = [finding.detail for finding in found if finding.state is WRONG]
    assert wrong == ["no worker takes redrive-maintenance and redrive-submit"]
    both = [row(Role.WORKER, serves=QUEUES[:1]), row(Role.WORKER, pid=8, serves=QUEUES[1:]), row(Role.BEAT)]
    assert not [finding for finding in judge(ELSEWHERE, *both) if finding.state is not OK]
