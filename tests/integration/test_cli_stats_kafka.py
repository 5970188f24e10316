"""What `redrive stats`, `audit` and `show` tell of a Kafka source."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from kafka_world import World, employee
from waiting import TEST_TIMEOUT

from tasks.devstack.kafka import EmbeddedKafka

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

HEADERS = [
    ("kafka_dlt-original-topic", b"employees"),
    ("kafka_dlt-original-partition", (3).to_bytes(4, "big")),
    ("kafka_dlt-original-offset", (41).to_bytes(8, "big")),
    ("kafka_dlt-exception-fqcn", b"org.springframework.kafka.listener.ListenerExecutionFailedException"),
    ("kafka_dlt-exception-cause-fqcn", b"org.hibernate.StaleObjectStateException"),
    ("traceparent", b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"),
]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Three letters taken in, and two more on the topic since."""
    with EmbeddedKafka() as kafka:
        made = World(kafka.bootstrap, tmp_path_factory.mktemp("kafka"))
        kafka.make(made.topic)
        for number in (1, 2, 3):
            made.write(employee(number), partition=1, headers=HEADERS)
        made.flush()
        assert made.member().drain(wait=20).accepted == 3
        made.write(employee(4), partition=1)
        made.write(employee(5), partition=2)
        made.flush()
        yield made
        made.close()


def redrive(world: World, *arguments: str) -> str:
    command = [sys.executable, "-m", "tasks.cli", *arguments]
    env = {"REDRIVE_CONFIG": str(world.file), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(
        command, env=env, cwd=world.file.parent, capture_output=True, text=True, timeout=TEST_TIMEOUT, check=True
    )
    return done.stdout


def test_stats_tell_the_lag_of_each_partition(world: World):
    *_, behind = [json.loads(line) for line in redrive(world, "stats", "--json").splitlines()]
    assert behind["source"] == "dlt"
    assert {each["partition"]: (each["committed"], each["lag"]) for each in behind["partitions"]} == {
        0: (None, 0),
        1: (3, 1),
        2: (None, 1),
        3: (None, 0),
    }
    assert f"dlt {world.topic}/1 1 3" in " ".join(redrive(world, "stats").split())


def test_audit_tells_what_was_accepted_of_each_partition(world: World):
    audit = json.loads(redrive(world, "audit", "--json"))
    reach = {"accepted": 3, "first_offset": 0, "last_offset": 2, "gaps": 0}
    assert audit["sources"]["dlt"]["streams"] == {f"{world.topic}/1": reach}
    assert f"dlt {world.topic}/1 3 0 2 0" in " ".join(redrive(world, "audit").split())


def test_show_tells_where_a_letter_comes_from(world: World):
    said = redrive(world, "show", "1")
    assert "employees/3@41 StaleObjectStateException" in said
    assert "first.topic" in said
    assert "4bf92f3577b34da6a3ce929d0e0e4736" in said


def test_a_cluster_that_does_not_answer_is_told_beside_the_routes(world: World, tmp_path: Path):
    text = world.file.read_text().replace(world.bootstrap, "127.0.0.1:1")
    away = tmp_path / "redrive.toml"
    away.write_text(text)
    command = [sys.executable, "-m", "tasks.cli", "stats", "--json"]
    env = {"REDRIVE_CONFIG": str(away), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(command, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=TEST_TIMEOUT, check=True)
    *routes, behind = [json.loads(line) for line in done.stdout.splitlines()]
    assert [each["route"] for each in routes] == ["employees"]
    assert behind["source"] == "dlt"
    assert "127.0.0.1:1" in behind["error"]
