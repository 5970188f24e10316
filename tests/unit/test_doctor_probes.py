"""Liveness and readiness: every process of a role has to be live, and ready."""

from __future__ import annotations

from typing import Any

from test_doctor_processes import machine, row

from tasks.dlq.process import Role
from tasks.doctor.findings import State
from tasks.doctor.probes import judge_liveness, judge_readiness

OK, WRONG = State.OK, State.WRONG


def test_every_process_of_a_role_has_to_be_live():
    def judge(**ages: float) -> State:
        return judge_liveness(Role.WORKER, machine(**ages).view(), within=60, where="health").state

    assert judge() is WRONG
    assert judge(worker_7=1.0) is OK
    assert judge(worker_7=1.0, worker_8=61.0) is WRONG
    assert judge(worker_7=-61.0) is WRONG, "the clock was set back"


def test_every_process_of_a_role_has_to_have_a_heartbeat():
    here = machine(70, 80, worker_7=1.0, worker_8=1.0)

    def judge(*rows: dict[str, Any]) -> State:
        processes = [process for process in here.view(rows) if process.role is Role.WORKER]
        return judge_readiness(Role.WORKER, processes, within=60).state

    first, second = row(Role.WORKER, pid=70, main=7), row(Role.WORKER, pid=80, main=8)
    dead_child = row(Role.WORKER, pid=69, main=7, silent=500.0)
    assert judge(first, second) is OK
    assert judge(first, second, dead_child) is OK, "another child is there"
    assert judge(first) is WRONG
    assert judge(first, {**second, "silent": 61.0}) is WRONG
    assert judge(first, {**second, "role": Role.BEAT}) is WRONG
