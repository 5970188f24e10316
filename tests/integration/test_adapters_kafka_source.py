"""Kafka as a source, over librdkafka's mock cluster: nothing doubled, nothing skipped, whoever comes and goes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from kafka_world import PARTITIONS, PATIENCE, World, cluster_apart, employee
from waiting import until

from tasks.adapters.kafka import KafkaSource, KafkaTopics, read_lags
from tasks.adapters.kafka import source as source_module
from tasks.adapters.kafka.source import BATCH
from tasks.dlq.errors import BrokerUnavailable, ConfigError

if TYPE_CHECKING:
    from kafka_world import Member

    from tasks.devstack.kafka import EmbeddedKafka
    from tasks.dlq.ports import Record


def offsets(records: list[Record] | tuple[Record, ...]) -> list[tuple[str, int | None]]:
    return sorted((record.stream, record.offset) for record in records)


# --- the plain way ---------------------------------------------------------------------------------------------------


def test_a_topic_is_drained_and_its_offsets_are_committed(world: World):
    world.write_employees(1000)
    member = world.member()

    taken = member.drain()

    assert (taken.accepted, taken.known, taken.rejected) == (1000, 0, 0)
    assert world.committed() == dict.fromkeys(range(PARTITIONS), 250)
    assert [each.lag for each in world.lags()] == [0] * PARTITIONS
    assert world.audit().balanced
    assert member.drain().accepted == 0

    world.write(employee(7), partition=2)
    world.flush()
    assert member.drain(wait=PATIENCE, seconds=0).accepted == 1


def test_a_batch_has_hundreds_and_no_more(world: World):
    world.write_employees(2 * BATCH)
    records = world.member().source.receive(wait=0)
    assert 0 < len(records) <= BATCH


def test_nothing_is_committed_before_it_is_acknowledged(world: World):
    world.write_employees(8)
    member = world.member()
    records = member.source.receive(wait=0)
    assert records
    assert world.committed() == dict.fromkeys(range(PARTITIONS))
    assert sum(each.lag for each in world.lags()) == 8

    member.source.acknowledge(records)

    assert sum(each.committed or 0 for each in world.lags()) == len(records)


def test_a_commit_never_passes_what_is_not_settled(world: World):
    for number in range(10):
        world.write(employee(number + 1))
    world.flush()
    source = world.member().source
    records = receive(source, 10)

    source.acknowledge([*records[:3], *records[6:]])
    assert world.committed()[0] == 3

    source.acknowledge(records[3:6])
    assert world.committed()[0] == 10


def receive(source: KafkaSource, number: int) -> list[Record]:
    """Return so many records, read by receives that each begin anew until one has them all."""
    return until(lambda: records if len(records := list(source.receive(wait=PATIENCE))) == number else [], what="one whole batch")


# --- giving back -----------------------------------------------------------------------------------------------------


def test_what_is_given_back_comes_again_in_its_order(world: World):
    world.write_employees(40)
    source = world.member().source
    first = source.receive(wait=0)
    source.give_back(first)

    again: list[Record] = []
    while records := source.receive(wait=0):
        again += records
        source.acknowledge(records)

    assert len(again) == 40
    for partition in range(PARTITIONS):
        assert [each.offset for each in again if each.stream.endswith(f"/{partition}")] == list(range(10))
    assert world.committed() == dict.fromkeys(range(PARTITIONS), 10)


def test_part_of_a_batch_can_be_given_back(world: World):
    for number in range(10):
        world.write(employee(number + 1))
    world.flush()
    source = world.member().source
    records = receive(source, 10)

    source.acknowledge(records[:4])
    source.give_back(records[4:])
    assert world.committed()[0] == 4

    again = source.receive(wait=PATIENCE)
    assert again[0].offset == 4


def test_what_nobody_settled_comes_again(world: World):
    """A caller that fails in between must not have the next commit pass over its batch."""
    world.write_employees(4)
    source = world.member().source
    first, again = set(offsets(source.receive(wait=0))), set[tuple[str, int | None]]()
    assert first
    until(lambda: again.update(offsets(source.receive(wait=1))) or first <= again, what=f"{first} again")
    assert world.committed() == dict.fromkeys(range(PARTITIONS))


# --- members ---------------------------------------------------------------------------------------------------------


def test_a_member_that_leaves_without_acknowledging_leaves_it_to_the_next(world: World):
    world.write_employees(20)
    first = world.member()
    kept = first.keep(records := first.source.receive(wait=0))
    first.source.close()

    taken = world.member().drain()

    assert kept.accepted == len(records)
    assert (taken.accepted, taken.known) == (20 - len(records), len(records))
    assert world.audit().accepted == 20
    assert world.committed() == dict.fromkeys(range(PARTITIONS), 5)


def test_a_source_that_was_closed_can_be_used_again(world: World):
    world.write_employees(4)
    member = world.member()
    assert member.drain().accepted == 4
    member.source.close()
    member.source.close()
    world.write(employee(1))
    world.flush()
    assert member.drain().accepted == 1


def test_close_does_not_wait_for_a_long_poll(world: World):
    source = world.member().source
    assert source.receive(wait=0) == []
    records: list[object] = []
    poll = threading.Thread(target=lambda: records.append(source.receive(wait=600)))
    poll.start()
    source.close()
    poll.join(PATIENCE)
    assert not poll.is_alive()
    assert records == [[]]


def test_members_that_come_and_go_double_nothing_and_skip_nothing(world: World):
    world.write_employees(2000)
    first, second = world.member(), world.member()
    sums = [0, 0]
    stop = threading.Event()

    def follow(place: int, member: Member) -> None:
        while not stop.is_set():
            sums[place] += member.drain(wait=0.2, seconds=0.5).accepted

    one = threading.Thread(target=follow, args=(0, first))
    one.start()
    until(lambda: sums[0] > 0, what="the first member's first batch")
    two = threading.Thread(target=follow, args=(1, second))
    two.start()
    until(lambda: second.source._assigned, what="the second member's partitions")
    until(lambda: len(first.source._assigned | second.source._assigned) == PARTITIONS, what="the first member's")
    for each in range(2000):
        world.write(employee(each % 50 + 1), partition=each % PARTITIONS)
    world.flush()
    until(lambda: world.audit().accepted == 4000, what="the rest")
    until(lambda: sum(each.lag for each in world.lags()) == 0, what="the last commit")
    stop.set()
    one.join()
    two.join()

    assert sums[1] > 0
    assert sum(sums) == 4000
    found = world.audit()
    assert (found.accepted, found.rejected, found.lost) == (4000, 0, 0)


KILLED = """
import sys
from tasks.adapters import logs
logs.configure(json=None, secrets=())
from pathlib import Path
from kafka_world import World
world = World(sys.argv[1], Path(sys.argv[2]), topic=sys.argv[3])
member = world.member()
records = member.source.receive(wait=0)
print(member.keep(records).accepted, flush=True)
sys.stdin.read()
"""


def test_a_process_that_is_killed_between_commit_and_acknowledgement_doubles_nothing(world: World, tmp_path: Path):
    world.write_employees(100)
    world.runtime()
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", KILLED, world.bootstrap, str(tmp_path), world.topic]
    environ = {"PYTHONPATH": f"{root}:{root}/tests:{root}/tests/integration"}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environ) as process:
        assert process.stdout
        kept = int(process.stdout.readline())
        process.kill()
    assert kept > 0
    assert world.committed() == dict.fromkeys(range(PARTITIONS))

    taken = world.member().drain()  # the group notices after the session's timeout

    assert (taken.accepted, taken.known) == (100 - kept, kept)
    assert world.audit().accepted == 100
    assert sum(each.lag for each in world.lags()) == 0


def test_a_rewind_doubles_nothing(world: World):
    world.write_employees(40)
    member = world.member()
    member.drain()
    before = world.audit()
    member.source.close()
    world.rewind({0: 0, 1: 5, 2: 9, 3: 10})

    taken = member.drain()

    assert (taken.accepted, taken.known) == (0, 10 + 5 + 1)
    assert world.audit() == before
    assert world.committed() == dict.fromkeys(range(PARTITIONS), 10)


# --- what is not there -----------------------------------------------------------------------------------------------


def test_a_topic_that_does_not_exist_is_told_and_read_as_soon_as_it_is_there(
    kafka: EmbeddedKafka, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(source_module, "OUTAGE", 1.0)
    world = World(kafka.bootstrap, tmp_path)
    member = world.member()
    for _ in range(2):
        with pytest.raises(BrokerUnavailable, match=f"has no topic {world.topic}"):
            member.drain()
    assert world.lags() == []

    world.write_employees(4)

    assert until(lambda: taken(member), what="the new topic") == 4
    world.close()


def taken(member: Member) -> int:
    try:
        return member.drain().accepted
    except BrokerUnavailable:
        return 0


def test_a_broker_that_is_not_there_is_told_in_one_line(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(source_module, "OUTAGE", 0.5)
    source = KafkaSource(KafkaTopics(source="dlt", bootstrap="127.0.0.1:1", topics=["t"]))
    with pytest.raises(BrokerUnavailable, match=r"Kafka at 127\.0\.0\.1:1 does not answer") as caught:
        source.receive(wait=0)
    assert "bootstrap" in caught.value.hint
    source.close()
    with pytest.raises(BrokerUnavailable):
        read_lags(KafkaTopics(source="dlt", bootstrap="127.0.0.1:1", topics=["t"]))
    assert capfd.readouterr().err == ""


def test_a_cluster_that_stops_and_goes_on_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(source_module, "OUTAGE", 2.0)
    with cluster_apart() as (bootstrap, process):
        world = World(bootstrap, tmp_path)
        world.file.write_text(world.file.read_text().replace("properties = {", "properties = { socket_timeout_ms = 1000,"))
        world.write_employees(20)
        member = world.member()
        records = member.source.receive(wait=0)
        member.keep(records)

        process.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, process.pid, os.WSTOPPED)
        with pytest.raises(BrokerUnavailable):
            member.source.acknowledge(records)
        with pytest.raises(BrokerUnavailable):
            member.drain(wait=1)
        process.send_signal(signal.SIGCONT)

        until(lambda: taken(member) or world.audit().accepted == 20, what="the rest")
        until(lambda: taken(member) or sum(each.lag for each in world.lags()) == 0, what="the commit that was made up for")
        assert world.audit().accepted == 20
        world.close()


def test_its_log_lines_come_while_partitions_are_handed_out(world: World):
    """A call of the consumer's within the callback of its poll would end the process at the poll's next callback."""
    config = world.file.read_text()
    assert "properties = {" in config
    world.file.write_text(config.replace("properties = {", 'properties = { "debug" = "cgrp", '))
    world.write_employees(10)
    assert world.member().drain().accepted == 10


@pytest.mark.parametrize(
    ("properties", "told"),
    [
        ({"no.such.property": "1"}, "no.such.property"),
        ({"session.timeout.ms": "never"}, "session.timeout.ms"),
        ({"security.protocol": "ssl", "ssl.ca.location": "/nowhere.pem"}, "ssl.ca.location"),
    ],
)
def test_properties_that_librdkafka_does_not_take_are_refused_at_once(properties: dict[str, str], told: str):
    with pytest.raises(ConfigError) as caught:
        KafkaSource(KafkaTopics(source="dlt", bootstrap="127.0.0.1:1", topics=["t"], properties=properties))
    assert told in caught.value.message
    assert "sources.dlt.properties" in caught.value.hint
