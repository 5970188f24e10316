"""What `redrive doctor` makes of what it sees."""

from __future__ import annotations

import json
import resource
import threading
from typing import TYPE_CHECKING, Any

import pytest

from tasks.adapters.kafka.lag import Lag
from tasks.adapters.pulse import Seen
from tasks.cli.doctor.findings import Finding, State, examine, exit_code
from tasks.cli.doctor.ledger import Contents, backlog, clock, processes, routes
from tasks.cli.doctor.machine import judge_room, open_files
from tasks.cli.doctor.network import hosts, judge_lags
from tasks.cli.doctor.presence import judge_heartbeats, judge_pulses
from tasks.cli.doctor.queues import Wanted, judge_queue
from tasks.dlq.errors import LedgerUnavailable
from tasks.dlq.process import Role
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


def test_processes_that_are_alive():
    found = list(processes([row(Role.WORKER), row(Role.BEAT, pid=8), row(Role.BEAT, pid=9), row(Role.INTAKE, pid=10)]))
    assert states(iter(found)) == {"worker": OK, "beat": OK, "intake": OK}
    assert next(each.detail for each in found if each.name == "beat") == "2 alive: a:8, a:9"


def test_processes_that_are_not():
    assert states(processes([])) == {"worker": WRONG, "beat": WRONG}  # intake may be left out: beat's sweeps drain, too
    found = {each.name: each for each in processes([row(Role.WORKER, silent=61.0), row(Role.BEAT, silent=59.0)])}
    assert (found["worker"].state, found["worker"].detail) == (WRONG, "none has been seen for 1m")
    assert found["beat"].state is OK


def test_a_queue_that_no_worker_takes():
    found = list(processes([row(Role.WORKER, serves=["redrive-recovery"]), row(Role.BEAT)]))
    assert [each.detail for each in found if each.state is WRONG] == ["no worker takes redrive-maintenance and redrive-submit"]
    both = [row(Role.WORKER, serves=QUEUES[:1]), row(Role.WORKER, pid=8, serves=QUEUES[1:]), row(Role.BEAT)]
    assert not [each for each in processes(both) if each.state is not OK]


def test_what_holds_a_route_up():
    route: dict[str, Any] = {"route": "r", "paused": False, "paused_by": None, "pause_reason": None, "breaker": "closed"}
    [fine] = routes([route])
    [is_open] = routes([{**route, "breaker": "open"}])
    [paused] = routes([{**route, "breaker": "open", "paused": True, "paused_by": "alice@host"}])
    assert [fine.state, is_open.state, paused.state] == [OK, WARNING, WARNING]
    assert paused.detail == "paused by alice@host: no reason given"
    assert is_open.hint.endswith("redrive resume r")
    assert paused.hint == "run: redrive resume r"


def contents(**values: Any) -> Contents:
    plain = {"now": 10_000_000, "processes": [], "routes": [], "oldest_due": None, "waiting": 0, "parked": 0, "rejected": 0}
    return Contents(**{**plain, **values})


def test_the_backlog():
    assert states(backlog(contents())) == {"backlog": OK}
    assert states(backlog(contents(parked=1, rejected=2))) == {"backlog": OK, "parked": WARNING, "rejected": WARNING}
    late = contents(waiting=3, oldest_due=10_000_000 - 301_000)
    [found] = backlog(late)
    assert (found.state, found.detail) == (WARNING, "3 jobs waiting, the oldest has been due for 5m")
    held_up = [{"route": "r", "paused": True, "breaker": "closed"}]
    assert states(backlog(contents(waiting=3, oldest_due=0, routes=held_up))) == {"backlog": OK}


# --- queues and topics -------------------------------------------------------------------------------------------------

POLICY = json.dumps({"deadLetterTargetArn": "arn:aws:sqs:us-east-1:1:redrive-recovery-dead", "maxReceiveCount": "5"})
GOOD = {"VisibilityTimeout": "300", "MessageRetentionPeriod": "1209600", "RedrivePolicy": POLICY}
RECOVERY = Wanted(queue="redrive-recovery", client=None, visibility=40.0)  # type: ignore[arg-type]


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
    found = judge_queue(RECOVERY, attributes, waiting=waiting)
    assert (found.name, found.state) == ("redrive-recovery", state)
    assert found.detail.startswith(told)
    assert bool(found.hint) == (state is not OK)


def test_a_source_is_called_by_its_name():
    source = Wanted(queue="https://sqs.us-east-1.amazonaws.com/1/x-dlq", client=None, visibility=0.0, source="x")  # type: ignore[arg-type]
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
        return judge_pulses(Role.WORKER, [Seen(pid=7, age=age) for age in ages], within=60, where="health").state

    assert [judged(), judged(1.0), judged(1.0, 61.0), judged(-61.0)] == [WRONG, OK, WRONG, WRONG]


def test_every_process_of_a_role_has_to_have_a_heartbeat():
    pulses = [Seen(pid=7, age=1.0), Seen(pid=8, age=1.0)]

    def judged(*rows: dict[str, Any]) -> State:
        return judge_heartbeats(Role.WORKER, pulses, rows, within=60).state

    first, second = row(Role.WORKER, pid=70, main=7), row(Role.WORKER, pid=80, main=8)
    dead_child = row(Role.WORKER, pid=69, main=7, silent=500.0)
    assert judged(first, second) is OK
    assert judged(first, second, dead_child) is OK  # its successor is there
    assert judged(first) is WRONG
    assert judged(first, {**second, "silent": 61.0}) is WRONG
    assert judged(first, {**second, "role": Role.BEAT}) is WRONG
