"""What `redrive doctor` makes of what it sees."""

from __future__ import annotations

import json
import resource
import threading
from typing import TYPE_CHECKING, Any

import pytest

from tasks.adapters.kafka import Lag
from tasks.adapters.liveness import LocalProcess
from tasks.adapters.sqs import SqsQueue
from tasks.dlq.errors import LedgerUnavailable
from tasks.dlq.process import Role
from tasks.doctor.findings import Finding, State, examine, exit_code
from tasks.doctor.kafka import judge_lags
from tasks.doctor.ledger import clock
from tasks.doctor.machine import judge_room, open_files
from tasks.doctor.network import hosts
from tasks.doctor.probes import judge_heartbeats, judge_liveness
from tasks.doctor.processes import Machine, processes
from tasks.doctor.queues import judge_queue
from tasks.doctor.work import Call, RouteWork, Work, backlog, calls, routes
from tasks.settings import assemble

if TYPE_CHECKING:
    from collections.abc import Iterator

OK, WARNING, WRONG = State
QUEUES = ["redrive-maintenance", "redrive-recovery", "redrive-submit"]


def row(
    role: Role, *, pid: int = 7, silent: float = 1.0, main: int | None = None, serves: list[str] | None = None
) -> dict[str, Any]:
    serves = QUEUES if serves is None else serves
    return {"role": role, "host": "a", "pid": pid, "main_pid": main or pid, "silent": silent, "serves": serves}


def states(findings: Iterator[Finding]) -> dict[str, State]:
    return {each.name: each.state for each in findings}


# --- the whole ---------------------------------------------------------------------------------------------------------


def test_the_exit_code_tells_out_of_reach_from_wrong_and_lets_warnings_pass():
    fine, told = Finding(name="a", detail=""), Finding(name="b", state=WARNING, detail="", out_of_reach=True)
    wrong = Finding(name="c", state=WRONG, detail="")
    away = Finding(name="d", state=WRONG, detail="", out_of_reach=True)
    assert [exit_code(each) for each in ([], [fine, told], [fine, wrong], [wrong, away])] == [0, 0, 1, 5]


def test_a_check_that_hangs_holds_up_nobody_and_what_it_found_is_shown():
    never = threading.Event()

    def hangs() -> Iterator[Finding]:
        yield Finding(name="first", detail="seen")
        never.wait()

    def fails() -> Iterator[Finding]:
        raise LedgerUnavailable("it is away", hint="look")
        yield

    def breaks() -> Iterator[Finding]:
        raise RuntimeError("a fault")
        yield

    found = examine({"ledger": hangs, "other": fails, "third": breaks}, seconds=0.2)
    never.set()
    assert [(each.name, each.state, each.out_of_reach) for each in found] == [
        ("first", OK, False),
        ("ledger", WRONG, True),
        ("other", WRONG, True),
        ("third", WRONG, False),
    ]
    assert found[1].detail == "no answer within 0.2 s"
    assert (found[2].detail, found[2].hint) == ("it is away", "look")
    assert found[3].detail == "RuntimeError: a fault"


# --- this machine ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("free", "state"), [(1 << 40, OK), (1 << 29, WARNING), (1 << 20, WRONG)])
def test_room(free: int, state: State):
    found = judge_room("state_dir", "/var/lib/redrive", free)
    assert found.state is state
    assert bool(found.hint) == (state is not OK)


def test_open_files():
    assert open_files(1024, 200).state is OK
    assert open_files(resource.RLIM_INFINITY, 200).state is OK
    assert open_files(199, 200).state is WRONG


# --- the ledger --------------------------------------------------------------------------------------------------------


def test_the_clock():
    assert [clock(ahead).state for ahead in (0.0, -4.9, 5.1, -3600.0)] == [OK, OK, WARNING, WARNING]
    assert "3600.0 s behind" in clock(-3600.0).detail


def machine(*pids: int, **ages: float) -> Machine:
    """Machine `a`, on which these pids run; `worker_7=1.0` is a liveness file."""
    files = {(name.split("_")[0], int(name.split("_")[1])): age for name, age in ages.items()}
    return Machine(host="a", ages=files, runs={*pids, *(pid for _, pid in files)}.__contains__)


ELSEWHERE = Machine(host="b", runs=lambda _: False)


def test_processes_that_are_alive():
    found = list(processes([row(Role.WORKER), row(Role.BEAT, pid=8), row(Role.BEAT, pid=9), row(Role.INTAKE, pid=10)], ELSEWHERE))
    assert states(iter(found)) == {"worker": OK, "beat": OK, "intake": OK}
    assert next(each.detail for each in found if each.name == "beat") == "2 alive: a:8, a:9"
    pool = [row(Role.WORKER, pid=70, main=7), row(Role.WORKER, pid=71, main=7)]
    assert next(processes(pool, machine(70, 71, worker_7=1.0))).detail == "1 alive: a:7"


def test_processes_that_are_not():
    assert states(processes([], ELSEWHERE)) == {"worker": WRONG, "beat": WRONG}  # no intake: beat's sweeps drain, too
    found = {each.name: each for each in processes([row(Role.WORKER, silent=61.0), row(Role.BEAT, silent=59.0)], ELSEWHERE)}
    assert found["worker"].state is WRONG
    assert found["worker"].detail == "none runs; a:7 did not stop cleanly, its last sign is 1m old"
    assert found["worker"].hint == "start one: celery -A tasks worker"
    assert found["beat"].state is OK


def test_a_process_of_this_machine_that_was_killed_does_not_count():
    killed = row(Role.WORKER, pid=70, main=7, silent=4.0)
    [worker, _] = processes([killed], machine())
    assert (worker.state, worker.detail) == (WRONG, "none runs; a:7 did not stop cleanly, its last sign is 4s old")
    [worker, _] = processes([killed, row(Role.WORKER, pid=80, main=8)], machine(80, worker_8=1.0))
    assert (worker.state, worker.detail) == (OK, "1 alive: a:8")
    assert next(processes([], machine())).detail == "none runs"  # what stopped cleanly has no row


def test_a_process_that_stands_still_is_named():
    stale, fine = row(Role.WORKER, pid=70, main=7, silent=63.0), row(Role.WORKER, pid=8)
    [worker, _] = processes([stale], machine(70, worker_7=63.2))
    assert (worker.state, worker.detail) == (WRONG, "stands still: process 7 for 63 s")
    assert worker.hint.startswith("restart it")
    [worker, _] = processes([stale, fine], machine(70, worker_7=63.2, worker_8=1.0))
    assert (worker.state, worker.detail) == (WRONG, "stands still: process 7 for 63 s; 1 alive: a:8")


def test_a_process_that_is_live_but_does_not_reach_the_ledger_is_no_case_for_a_restart():
    [worker, _] = processes([row(Role.WORKER, pid=70, main=7, silent=63.0)], machine(70, worker_7=1.0))
    assert (worker.state, worker.detail) == (WRONG, "live, but without a heartbeat in the ledger: process 7 for 63 s")
    assert worker.hint.startswith("its work hangs or cannot write")
    [worker, _] = processes([], machine(worker_7=1.0))
    assert worker.detail == "live, but not yet in the ledger: process 7"


def test_a_queue_that_no_worker_takes():
    found = list(processes([row(Role.WORKER, serves=["redrive-recovery"]), row(Role.BEAT)], ELSEWHERE))
    assert [each.detail for each in found if each.state is WRONG] == ["no worker takes redrive-maintenance and redrive-submit"]
    both = [row(Role.WORKER, serves=QUEUES[:1]), row(Role.WORKER, pid=8, serves=QUEUES[1:]), row(Role.BEAT)]
    assert not [each for each in processes(both, ELSEWHERE) if each.state is not OK]


def test_what_holds_a_route_up():
    [fine] = routes([RouteWork(name="r")])
    [is_open] = routes([RouteWork(name="r", breaker_open=True)])
    [paused] = routes([RouteWork(name="r", breaker_open=True, paused=True, paused_by="alice@host")])
    assert [fine.state, is_open.state, paused.state] == [OK, WARNING, WARNING]
    assert fine.detail == "takes calls"
    assert paused.detail == "paused by alice@host: no reason given"
    assert is_open.hint.endswith("redrive resume r")
    assert paused.hint == "run: redrive resume r"
    assert not list(routes([RouteWork(name="old", configured=False)]))
    [left] = routes([RouteWork(name="old", configured=False, oldest_due=1)])
    assert (left.state, left.hint) == (WARNING, "put [routes.old] back, or run: redrive discard --route old")


NOW = 10_000_000


def overdue(**values: Any) -> Finding:
    """What is said of a route whose oldest job has been due for 301 s."""
    [found] = backlog(Work(now=NOW, waiting=3, routes=[RouteWork(name="r", oldest_due=NOW - 301_000, **values)]))
    return found


def test_the_backlog():
    assert states(backlog(Work(now=NOW))) == {"backlog": OK}
    assert states(backlog(Work(now=NOW, parked=1, rejected=2))) == {"backlog": OK, "parked": WARNING, "rejected": WARNING}
    slow, stuck = overdue(last_call=NOW - 299_000), overdue(last_call=NOW - 301_000)
    due = "3 jobs waiting, the oldest has been due for 5m"
    assert (slow.state, slow.detail) == (WARNING, due)
    assert (stuck.state, stuck.detail) == (WRONG, f"{due}; no call of r has begun for 5m or longer")
    assert stuck.hint.startswith("see the lines of worker")


@pytest.mark.parametrize(
    ("held", "why"),
    [
        ({"paused": True}, "r is paused"),
        ({"breaker_open": True}, "r's breaker is open"),
        ({"not_before": NOW + 20_000}, "r was told by its API to wait for 20s more"),
        ({"configured": False}, "r is not in redrive.toml"),
    ],
)
def test_a_backlog_of_a_route_that_is_held_up_says_so(held: dict[str, Any], why: str):
    found = overdue(**held)
    assert (found.state, found.detail) == (OK, f"3 jobs waiting, the oldest has been due for 5m; {why}")


def test_a_route_that_is_held_up_hides_no_other():
    late = NOW - 301_000
    found = [RouteWork(name="r", paused=True, oldest_due=late), RouteWork(name="s", oldest_due=late)]
    assert states(backlog(Work(now=NOW, waiting=2, routes=found))) == {"backlog": WRONG}


def test_calls_that_nobody_will_settle():
    def told(*ends: int, worker: str = "a:7", at: Machine) -> list[tuple[State, str]]:
        work = Work(now=NOW, calls=[Call(worker=worker, lease_until=NOW + end) for end in ends])
        return [(each.state, each.detail) for each in calls(work, at)]

    assert told(20_000, at=machine(7)) == told(20_000, at=ELSEWHERE) == told(at=machine()) == []
    assert told(20_000, at=machine()) == [(WARNING, "1 call's worker is gone: it is taken back in 20s")]
    assert told(20_000, 9_000, at=machine()) == [(WARNING, "2 calls' workers are gone: they are taken back in 20s")]
    assert told(-5_000, at=machine(7)) == [(WARNING, "1 call past the lease, for 5s: the next sweep takes it back")]
    assert told(-121_000, at=machine(7))[0][0] is WRONG


# --- queues and topics -------------------------------------------------------------------------------------------------

POLICY = json.dumps({"deadLetterTargetArn": "arn:aws:sqs:us-east-1:1:redrive-recovery-dead", "maxReceiveCount": "5"})
GOOD = {"VisibilityTimeout": "300", "MessageRetentionPeriod": "1209600", "RedrivePolicy": POLICY}
RECOVERY = SqsQueue(source="", queue="redrive-recovery")


@pytest.mark.parametrize(
    ("attributes", "waiting", "state", "told"),
    [
        (GOOD, 0, OK, "hides 300 s, keeps 14 days, dead letters to redrive-recovery-dead"),
        ({"VisibilityTimeout": "300", "RedrivePolicy": POLICY}, None, OK, "hides 300 s"),  # ElasticMQ keeps for ever
        ({**GOOD, "VisibilityTimeout": "39"}, 0, WRONG, "hides a message for 39 s, a worker may be busy for 40 s"),
        ({**GOOD, "RedrivePolicy": ""}, 0, WRONG, "no dead-letter queue"),
        ({**GOOD, "MessageRetentionPeriod": "86400"}, 0, WARNING, "keeps a message for 1.0 days only"),
        (GOOD, 3, WARNING, "3 messages in redrive-recovery-dead"),
    ],
)
def test_a_queue(attributes: dict[str, str], waiting: int | None, state: State, told: str):
    found = judge_queue(RECOVERY, attributes, waiting=waiting, visibility=40.0)
    assert (found.name, found.state) == ("redrive-recovery", state)
    assert found.detail.startswith(told)
    assert bool(found.hint) == (state is not OK)


def test_a_source_is_called_by_its_name():
    source = SqsQueue(source="x", queue="https://sqs.us-east-1.amazonaws.com/1/x-dlq")
    found = judge_queue(source, GOOD, waiting=0)
    assert found.name == "source x"
    assert found.detail.startswith("x-dlq: hides 300 s")


def test_a_kafka_source():
    lag = Lag(topic="a-dlt", partition=0, committed=5, low=0, high=12)
    assert judge_lags("a", ["a-dlt"], [lag]).detail == "Kafka answers; 7 to be read in 1 partition"
    missing = judge_lags("a", ["a-dlt", "b-dlt"], [lag])
    assert missing.state is WARNING
    assert missing.detail.endswith("there is no topic b-dlt")


def test_each_host_is_asked_once():
    table = {name: {"url": f"{url}/{name}"} for name, url in {"a": "https://h", "b": "https://h:443", "c": "http://h"}.items()}
    assert hosts(assemble({"routes": table}, {})) == {("https", "h", 443): ["a", "b"], ("http", "h", 80): ["c"]}


# --- readiness and liveness ----------------------------------------------------------------------------------------------


def test_every_process_of_a_role_has_to_be_live():
    def judged(*ages: float) -> State:
        return judge_liveness(Role.WORKER, [LocalProcess(pid=7, age=age) for age in ages], within=60, where="health").state

    assert [judged(), judged(1.0), judged(1.0, 61.0), judged(-61.0)] == [WRONG, OK, WRONG, WRONG]


def test_every_process_of_a_role_has_to_have_a_heartbeat():
    found = [LocalProcess(pid=7, age=1.0), LocalProcess(pid=8, age=1.0)]

    def judged(*rows: dict[str, Any]) -> State:
        return judge_heartbeats(Role.WORKER, found, rows, within=60).state

    first, second = row(Role.WORKER, pid=70, main=7), row(Role.WORKER, pid=80, main=8)
    dead_child = row(Role.WORKER, pid=69, main=7, silent=500.0)
    assert judged(first, second) is OK
    assert judged(first, second, dead_child) is OK  # its successor is there
    assert judged(first) is WRONG
    assert judged(first, {**second, "silent": 61.0}) is WRONG
    assert judged(first, {**second, "role": Role.BEAT}) is WRONG
