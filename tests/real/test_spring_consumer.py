"""examples/spring-consumer as a company runs it: two instances, true conflicts, healed by Redrive through their own API."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from company import Company, Owner, owner_server
from rehearsal import MEETINGS, PARTITIONS, Rehearsal
from stack import Stack, stack

from tasks.devstack.company.barrier import serve_barriers

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from jvm_servers import ElasticMq, KafkaBroker

CONFLICT = "org.springframework.orm.ObjectOptimisticLockingFailureException"
DEAD_LETTER_TOPIC = """
[sources.employees_dlt]
kind = "kafka"
bootstrap = "{bootstrap}"
topics = ["{topic}"]
route = "employees"
each = "employees[]"
map.employeeId = "id"
"""


@pytest.fixture
def owner() -> Iterator[Owner]:
    with owner_server() as server:
        yield server


@pytest.fixture
def rehearsal(
    tmp_path: Path, consumer_classpath: str, kafka_broker: KafkaBroker, owner: Owner, request: pytest.FixtureRequest
) -> Rehearsal:
    topic = request.node.name.replace("_", "-")
    kafka_broker.make_topics(topic, f"{topic}-dlt", partitions=PARTITIONS)
    return Rehearsal(Company(tmp_path, consumer_classpath), owner, kafka_broker, topic)


@pytest.fixture
def properties(rehearsal: Rehearsal) -> Iterator[Mapping[str, str]]:
    with serve_barriers(PARTITIONS) as port:
        yield {
            "SPRING_KAFKA_BOOTSTRAP_SERVERS": rehearsal.broker.bootstrap,
            "SPRING_KAFKA_CONSUMER_GROUP_ID": rehearsal.topic,
            "EMPLOYEES_TOPIC": rehearsal.topic,
            "EMPLOYEES_OWNER": rehearsal.owner.url,
            "REHEARSAL_PORT": str(port),
        }


def test_conflicts_sent_to_sqs_are_healed(
    tmp_path: Path, elasticmq: ElasticMq, rehearsal: Rehearsal, properties: Mapping[str, str]
):
    company = rehearsal.company
    with stack(tmp_path, elasticmq, company) as system:  # type: ignore[arg-type]
        queue = f"{system.prefix}employees-dlq"
        system.client.create_queue(QueueName=queue)
        of_variant = {"SPRING_PROFILES_ACTIVE": "sqs,rehearsal", "REDRIVE_SQS_ENDPOINT": elasticmq.endpoint}
        with company.running({**properties, **of_variant, "REDRIVE_SQS_QUEUE": queue}):
            rehearsal.run()
            assert company.count(f"Caused by: {CONFLICT}") == MEETINGS
            assert system.left() == 2 * MEETINGS + 1  # one for each employee of a failed message, and the poison
            assert len(rehearsal.stale()) >= MEETINGS
            heal(system)
            audit = system.wait_for_audit(accepted=2 * MEETINGS + 1, recovered=2 * MEETINGS, rejected=1)
            assert_all_is_well(rehearsal, system, audit)


def test_conflicts_in_a_dead_letter_topic_are_healed(
    tmp_path: Path, elasticmq: ElasticMq, rehearsal: Rehearsal, properties: Mapping[str, str]
):
    company, topic = rehearsal.company, f"{rehearsal.topic}-dlt"
    source = DEAD_LETTER_TOPIC.format(bootstrap=rehearsal.broker.bootstrap, topic=topic)
    with (
        stack(tmp_path, elasticmq, company, more=source) as system,  # type: ignore[arg-type]
        company.running({**properties, "SPRING_PROFILES_ACTIVE": "rehearsal"}),
    ):
        rehearsal.run()
        found = [dict(message.headers() or []) for message in rehearsal.dead_letters(MEETINGS + 1)]
        causes = [headers["kafka_dlt-exception-cause-fqcn"] for headers in found]
        assert causes.count(CONFLICT.encode()) == MEETINGS
        assert len(rehearsal.stale()) >= MEETINGS
        heal(system)
        system.start("intake", "tasks.cli", "intake")
        audit = system.wait_for_audit(accepted=MEETINGS + 1, recovered=MEETINGS, rejected=1)
        assert_all_is_well(rehearsal, system, audit)
        [letter] = json.loads(system.redrive("show", "1", "--json").stdout)["dead_letters"]
        assert letter["origin"]["first"]["topic"] == rehearsal.topic
        assert letter["origin"]["exception"]["class"] == CONFLICT


def heal(system: Stack) -> None:
    system.start_worker()
    system.start_beat()


def assert_all_is_well(rehearsal: Rehearsal, system: Stack, audit: dict[str, object]) -> None:
    assert audit["balanced"]
    assert audit["lost"] == 0
    assert rehearsal.stale() == []
    jobs = system.jobs()
    assert len(jobs) == 2 * MEETINGS
    assert {job["state"] for job in jobs} == {"completed"}
