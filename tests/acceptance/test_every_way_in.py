"""Every way in at once, into real processes: all that can be healed is, and the audit balances to the record."""

from __future__ import annotations

import json
import signal
import sqlite3
from collections import Counter
from itertools import count
from typing import TYPE_CHECKING, Any

import pytest
from confluent_kafka import Producer
from stack import Stack, stack
from waiting import TEST_TIMEOUT, until

from tasks.devstack.kafka import EmbeddedKafka

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from doubles.company_api import CompanyApi

    from tasks.devstack.sqs import EmbeddedSqs

    Headers = list[tuple[str, bytes | None]]

SOURCES = """
[sources.dlt]
kind = "kafka"
bootstrap = "{bootstrap}"
topics = ["zoo-dlt"]
group = "redrive-zoo"
properties.session_timeout_ms = 6000
route = "employees"
map.employeeId = "employeeId"
[sources.late]
kind = "kafka"
bootstrap = "{bootstrap}"
topics = ["late-dlt"]
group = "redrive-late"
properties.session_timeout_ms = 6000
properties.topic_metadata_refresh_interval_ms = 500
route = "employees"
map.employeeId = "employeeId"
[sources.notices]
kind = "sqs"
queue = "{prefix}notices"
unwrap = ["sns"]
route = "employees"
map.employeeId = "employeeId"
"""
PARTITIONS = 4


# --- the header sets, as their writers have them ---------------------------------------------------------------------


def int4(number: int) -> bytes:
    return number.to_bytes(4, "big", signed=True)


def int8(number: int) -> bytes:
    return number.to_bytes(8, "big", signed=True)


def binary(original: str, exception: str, group: str = "") -> Headers:
    """Return what Spring's three writers have in common, by the prefixes of their names."""
    made: Headers = [
        (f"{original}original-topic", b"employees"),
        (f"{original}original-partition", int4(3)),
        (f"{original}original-offset", int8(42)),
        (f"{original}original-timestamp", int8(1700000000000)),
        (f"{original}original-timestamp-type", b"CreateTime"),
        (f"{exception}exception-fqcn", b"org.springframework.kafka.listener.ListenerExecutionFailedException"),
        (f"{exception}exception-cause-fqcn", b"org.springframework.orm.ObjectOptimisticLockingFailureException"),
        (f"{exception}exception-message", b"Listener failed"),
        (f"{exception}exception-stacktrace", b"at com.company.Payroll" * 500),
    ]
    return [*made, ("kafka_dlt-original-consumer-group", b"payroll")] if group else made


def text(prefix: str, **more: str) -> Headers:
    """Return headers whose numbers are decimal text."""
    fields = {"topic": "employees", "partition": "3", "offset": "42", **more}
    return [(prefix + name, value.encode()) for name, value in fields.items()]


WRITERS: dict[str, Headers] = {
    "spring": binary("kafka_dlt-", "kafka_dlt-", "payroll"),
    "spring-retry-topic": [
        *binary("kafka_", "kafka_", "payroll"),
        ("retry_topic-attempts", int4(5)),
        ("retry_topic-original-timestamp", b"\x01\x8b\xcf\xe5h\x00"),  # a BigInteger's bytes: no leading zeros
        ("retry_topic-backoff-timestamp", b"\x01\x8b\xcf\xe5h\x01"),
    ],
    "connect": [
        *text("__connect.errors.", stage="TASK_PUT"),
        ("__connect.errors.connector.name", b"payroll-sink"),
        ("__connect.errors.task.id", b"0"),
        ("__connect.errors.exception.class.name", b"org.apache.kafka.connect.errors.ConnectException"),
        ("__connect.errors.exception.message", b"the row was changed"),
    ],
    "streams": text("__streams.errors.", exception="com.company.Conflict", message="stale version", stacktrace="at ..."),
    "share-group": [*text("__dlq.errors.", group="payroll", message="rejected"), ("__dlq.errors.delivery.count", b"5")],
    "smallrye": [
        *text("dead-letter-", reason="it failed", cause="stale version"),
        ("dead-letter-exception-class-name", b"java.util.concurrent.CompletionException"),
        ("dead-letter-cause-class-name", b"com.company.Conflict"),
    ],
    "spring-cloud-stream": binary("x-", "x-"),
}
#: Headers that no writer should have written: the bodies are good, so the letters are.
ODD_HEADERS: tuple[Headers, ...] = (
    [("kafka_dlt-original-topic", b"employees"), ("kafka_dlt-original-offset", b"123456789"), ("kafka_original-partition", None)],
    [("kafka_dlt-original-topic", b"\xff\x00\xfe"), ("kafka_dlt-exception-message", b"x" * (1 << 18))],
    [("__connect.errors.topic", b"employees"), ("__connect.errors.offset", b"-9" * 5000), ("", b"")],
)
#: Values that say nothing of an employee, with the reason of their rejection.
POISON: tuple[tuple[bytes | None, str], ...] = (
    (None, "empty"),
    (b"", "empty"),
    (b"\x00\x00\x00\x00\x07\x02\x9a", "not-utf8"),  # Avro, behind its schema's number
    (b"\xff\xfe{\x00}\x00", "not-utf8"),
    (b"[" * 1_000_000, "too-deep"),
    (b'{"employeeId": 1, "note": "' + b"x" * (1 << 20) + b'"}', "too-large"),
    (b'{"employeeId": "\x00"}', "not-json"),
    (b'{"employeeId": "\\u0000"}', "invalid-parameter"),
    (b'{"employeeId": "\\ud800"}', "invalid-parameter"),
    (b'{"employeeId": ' + b"9" * 5000 + b"}", "integer-too-long"),
    (b'{"employeeId": "../admin"}', "invalid-parameter"),
    (b'{"employees": []}', "invalid-parameter"),
)


# --- the ways in -----------------------------------------------------------------------------------------------------


class Zoo:
    """All that arrives; no two failures are about one employee, so that each asks for one call."""

    def __init__(self, system: Stack, kafka: EmbeddedKafka) -> None:
        self.system = system
        self.accepted: Counter[str] = Counter()
        self.reasons: Counter[tuple[str, str]] = Counter()
        self.paths: list[str] = []
        self._employees = count(1)
        self._places = count()
        self._producer = Producer({"bootstrap.servers": kafka.bootstrap, "message.max.bytes": 3_000_000, "log_level": 2})

    def good(self, source: str) -> int:
        """Return the next employee, who is to be healed."""
        employee = next(self._employees)
        self.accepted[source] += 1
        self.paths.append(f"/employees/{employee}")
        return employee

    def bad(self, source: str, reason: str) -> None:
        self.accepted[source] += 1
        self.reasons[source, reason] += 1

    def kafka(self, value: bytes | None, headers: Headers | None = None, *, topic: str = "zoo-dlt", key: bytes | None = None):
        self._producer.produce(topic, value, key=key, headers=headers, partition=next(self._places) % PARTITIONS)
        assert self._producer.flush(20) == 0

    def a_failure(self, headers: Headers | None = None, *, topic: str = "zoo-dlt", padded_to: int = 0) -> None:
        body = f'{{"employeeId": {self.good("late" if topic == "late-dlt" else "dlt")}'
        self.kafka((body + " " * (padded_to - len(body) - 1) + "}").encode(), headers, topic=topic, key=b"\xff\x00")

    def mixed_dead_letter_topic(self) -> None:
        """Write every writer's letters, with poison in between, over all partitions."""
        for value, reason in POISON:
            for headers in WRITERS.values():
                self.a_failure(headers)
            self.bad("dlt", reason)
            self.kafka(value, headers=WRITERS["spring"])
        for odd in ODD_HEADERS:
            self.a_failure(odd)
        self.a_failure()
        self.a_failure(padded_to=1 << 20)

    def notices(self) -> None:
        """Send what SNS wraps around a body, and what it sends for itself."""
        for number in range(12):
            inner = json.dumps({"employeeId": self.good("notices")})
            self.system.send(json.dumps({"Type": "Notification", "MessageId": f"{number}", "Message": inner}), queue="notices")
        for body, reason in (
            ('{"employeeId": 1}', "not-wrapped"),
            ('{"Type": "SubscriptionConfirmation", "Message": "You have chosen to subscribe"}', "not-wrapped"),
            ('{"Type": "Notification", "Message": "not json"}', "not-json"),
            ('{"Type": "Notification", "Message": "{\\"employeeId\\": \\"\\\\ud800\\"}"}', "invalid-parameter"),
            ("[" * 100_000, "too-deep"),
        ):
            self.bad("notices", reason)
            self.system.send(body, queue="notices")

    def plain_queue(self) -> None:
        for _ in range(12):
            self.system.send(json.dumps({"employeeId": self.good("employees_dlq")}))
        for body, reason in (("not json", "not-json"), ('{"employeeId": -1}', "invalid-parameter")):
            self.bad("employees_dlq", reason)
            self.system.send(body)

    def celery(self) -> None:
        self.system.submit("employees", employeeId=self.good("celery"))
        self.system.submit("employees", employeeId=self.good("celery"))
        self.bad("celery", "unknown-route")
        self.system.submit("nowhere", employeeId=1)
        self.bad("celery", "invalid-parameter")
        self.system.submit("employees", employeeId="..")

    def file(self) -> None:
        """Send a file, twice; its wrong lines are told to who sent it, and kept."""
        lines = [json.dumps({"employeeId": self.good("cli")}) for _ in range(12)]
        file = self.system.folder / "failures.jsonl"
        file.write_text("\n".join([*lines[:6], "not json", '{"employeeId": "x"}', *lines[6:]]) + "\n")
        self.bad("cli", "not-json")
        self.bad("cli", "invalid-parameter")
        for _ in range(2):
            done = self.system.redrive("send", "employees", "--file", str(file))
            assert done.returncode == 3, done.stderr
            assert "Traceback" not in done.stderr

    def sums(self) -> dict[str, int]:
        accepted, rejected = self.accepted.total(), self.reasons.total()
        return {"accepted": accepted, "recovered": accepted - rejected, "rejected": rejected}


@pytest.fixture
def zoo(tmp_path: Path, sqs: EmbeddedSqs, company_api: CompanyApi) -> Iterator[Zoo]:
    with EmbeddedKafka() as kafka, stack(tmp_path, sqs, company_api) as system:
        assert kafka.make("zoo-dlt") == PARTITIONS
        with (tmp_path / "redrive.toml").open("a") as file:
            file.write(SOURCES.format(bootstrap=kafka.bootstrap, prefix=system.prefix))
        assert system.redrive("config").returncode == 0
        yield Zoo(system, kafka)


def start_intake(system: Stack, name: str) -> None:
    system.start(name, "tasks.cli", "intake")
    until(lambda: "intake_started" in system.log(name), what=f"{name}: {system.log(name)[-2000:]}")


def known(system: Stack, name: str) -> int:
    """Return how many letters of Kafka's an intake was handed that the ledger had already."""
    lines = [json.loads(line) for line in system.log(name).splitlines()]
    return sum(line["known"] for line in lines if line["event"] == "records_taken" and line["source"] == "dlt")


def letters(system: Stack) -> list[dict[str, Any]]:
    with sqlite3.connect(system.folder / "state" / "ledger.db") as ledger:
        ledger.row_factory = sqlite3.Row
        rows = ledger.execute("SELECT source, origin, reject_reason FROM dead_letters").fetchall()
    ledger.close()
    return [{**row, "origin": json.loads(row["origin"])} for row in rows]


def test_all_that_arrives_is_healed_or_rejected_and_the_audit_balances(zoo: Zoo, company_api: CompanyApi):
    system = zoo.system
    system.start_worker()
    system.start_beat()
    start_intake(system, "intake")
    until(lambda: "topic_missing" in system.log("intake"), what=system.log("intake"))

    zoo.mixed_dead_letter_topic()
    zoo.notices()
    zoo.plain_queue()
    zoo.celery()
    zoo.file()
    zoo.a_failure(topic="late-dlt")

    audit = system.wait_for_audit(**zoo.sums())
    check(audit, zoo)
    assert sorted(company_api.paths()) == sorted(zoo.paths)
    assert company_api.most_in_flight == 1

    # What every letter tells of itself.
    found = letters(system)
    reasons = Counter((each["source"], each["reject_reason"]) for each in found if each["reject_reason"])
    assert reasons == zoo.reasons
    origins = [each["origin"] for each in found if each["source"] == "dlt" and not each["reject_reason"]]
    written_by = Counter(each.get("written_by", "nobody") for each in origins)
    assert {name: written_by[name] for name in WRITERS} == dict.fromkeys(WRITERS, len(POISON)) | {
        "spring": len(POISON) + 2,
        "connect": len(POISON) + 1,
    }
    for each in origins:
        if "offset" in each.get("first", {}):
            assert {**each["first"], "topic": "employees", "partition": 3, "offset": 42} == each["first"]

    # An intake that ends as it should and one that is killed, each followed by one that reads the topic from its beginning: a
    # group that is new has no offsets, and all comes again.
    for number, kind in enumerate((signal.SIGTERM, signal.SIGKILL), start=1):
        ending = system.processes["intake" if number == 1 else "intake-1"]
        ending.send_signal(kind)
        file = system.folder / "redrive.toml"
        file.write_text(file.read_text().replace('group = "redrive-zoo', 'group = "redrive-zoo-again'))
        again = zoo.accepted["dlt"]
        start_intake(system, f"intake-{number}")
        zoo.a_failure(WRITERS["spring"])
        check(system.wait_for_audit(**zoo.sums()), zoo)
        until(lambda name=f"intake-{number}", again=again: known(system, name) >= again, what="all of it again")
        check(system.audit(), zoo)
        assert ending.wait(TEST_TIMEOUT) == (0 if kind is signal.SIGTERM else -kind)
    assert len(company_api.paths()) == len(zoo.paths)
    assert "redrive.kafka" not in system.log("worker"), "joining a group takes seconds: the worker has calls to make"
    for name in system.processes:
        assert "Traceback" not in system.log(name), system.log(name)


def check(audit: dict[str, Any], zoo: Zoo) -> None:
    """Assert that the audit has each source's letters to the record, and its partitions without a gap."""
    assert audit["balanced"]
    assert audit["lost"] == 0
    rejected = Counter(source for source, _ in zoo.reasons.elements())
    assert {name: (each["accepted"], each["rejected"], each["lost"]) for name, each in audit["sources"].items()} == {
        name: (accepted, rejected[name], 0) for name, accepted in zoo.accepted.items()
    }
    streams = {**audit["sources"]["dlt"]["streams"], **audit["sources"]["late"]["streams"]}
    assert sum(each["accepted"] for each in streams.values()) == zoo.accepted["dlt"] + zoo.accepted["late"]
    assert {(each["first_offset"], each["gaps"]) for each in streams.values()} == {(0, 0)}
