"""`redrive intake --dry-run`: real records are looked at, and every one is where it was."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import pytest
from command_line import AWAY, CommandLine, client_of, command_line, depth
from kafka_world import PARTITIONS, World, employee

from tasks.adapters.kafka import sample
from tasks.adapters.sqs import source as sqs_module
from tasks.dlq.errors import BrokerUnavailable

if TYPE_CHECKING:
    from pathlib import Path

    from tasks.devstack.sqs import EmbeddedSqs

SQS = """
[sources.employees_dlq]
kind = "sqs"
queue = "{queue}"
route = "employees"
each = "ids"
map.employeeId = "@"
"""
KAFKA = """
[sources.dlt]
kind = "kafka"
bootstrap = "{bootstrap}"
topics = ["{topic}"]
group = "{topic}-redrive"
route = "employees"
map.employeeId = "employeeId"
"""


def look(cli: CommandLine, *options: str, code: int = 0) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Run it in this process; return what it printed and what it told."""
    done = cli.run("intake", "--dry-run", "--json", *options, refused=True)
    assert done.returncode == code, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()], [json.loads(line) for line in done.stderr.splitlines()]


def fill(sqs: EmbeddedSqs, *bodies: str) -> str:
    client = client_of(sqs)
    queue = f"letters-{uuid4()}"
    url = client.create_queue(QueueName=queue)["QueueUrl"]
    for body in bodies:
        client.send_message(QueueUrl=url, MessageBody=body)
    client.close()
    return queue


def test_what_would_become_of_a_queues_messages_and_all_of_them_stay(
    tmp_path: Path, sqs: EmbeddedSqs, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(sqs_module, "GIVEN_BACK", 0)
    queue = fill(sqs, '{"ids": [1, 2]}', "not json", *(f'{{"ids": [{n}]}}' for n in range(3, 24)))
    cli = command_line(tmp_path, port=sqs.port, more=SQS.format(queue=queue))
    views, told = look(cli)

    *records, sums = views
    assert sums == {"source": "employees_dlq", "records": 23, "mapped": 22, "rejected": 1}
    assert len({each["identity"] for each in records}) == 23
    mapped = {tuple(sorted(each["employeeId"] for each in view.get("parameters", ()))): view for view in records}
    assert mapped["1", "2"]["route"] == "employees"
    assert mapped[()]["reason"] == "not-json"
    assert [each["warning"] for each in told] == ["source employees_dlq: SQS counts one more receive of each message"]
    assert "maxReceiveCount" in told[0]["hint"]
    assert depth(cli, sqs, queue, prefixed=False) == 23, "none is deleted"
    again, _ = look(cli)
    assert {each["identity"] for each in again[:-1]} == {each["identity"] for each in records}, "given back"
    assert {each["origin"]["receive_count"] for each in again[:-1]} == {2}
    assert not (cli.folder / ".redrive").exists(), "it makes no ledger"


def test_a_limit_is_kept_and_what_was_taken_with_it_is_given_back(tmp_path: Path, sqs: EmbeddedSqs):
    queue = fill(sqs, *(f'{{"ids": [{n}]}}' for n in range(1, 16)))
    cli = command_line(tmp_path, port=sqs.port, more=SQS.format(queue=queue))
    done = cli.run("intake", "--dry-run", "--limit", "3", refused=True)
    assert done.returncode == 0
    titles, *rows, blank, _, sums = done.stdout.splitlines()
    assert (titles.split()[:3], len(rows), blank) == (["Record", "of", "employees_dlq"], 3, "")
    assert sums.split() == ["employees_dlq", "employees", "3"]
    assert all("employees employeeId=" in row for row in rows)
    assert "there may be more in employees_dlq" in done.stderr
    assert "nothing was kept or acknowledged" in done.stderr
    client = client_of(sqs)
    url = client.get_queue_url(QueueName=queue)["QueueUrl"]
    counts = client.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    client.close()
    assert sum(int(value) for name, value in counts.items() if name.startswith("ApproximateNumberOfMessages")) == 15


def test_a_topic_is_looked_at_behind_the_committed_offsets_which_stay(world: World, tmp_path: Path):
    world.write_employees(8)
    member = world.member()
    member.drain()
    world.write_employees(8)
    world.write(b"not json", partition=0)
    world.flush()
    before = world.committed()
    (tmp_path / "other").mkdir()
    cli = command_line(tmp_path / "other", more=KAFKA.format(bootstrap=world.bootstrap, topic=world.topic))

    views, told = look(cli)
    assert views[-1] == {"source": "dlt", "records": 9, "mapped": 8, "rejected": 1}
    assert told == []
    places = sorted((each["origin"]["partition"], each["origin"]["offset"]) for each in views[:-1])
    assert places == sorted([(partition, offset) for partition in range(PARTITIONS) for offset in (2, 3)] + [(0, 4)])
    assert len(look(cli, "--limit", "3", "--source", "dlt")[0]) == 4

    assert world.committed() == before
    assert member.drain().accepted == 9, "the group's own member has lost neither partition nor record"
    assert look(cli) == ([{"source": "dlt", "records": 0, "mapped": 0, "rejected": 0}], [])


def test_a_topic_that_nobody_has_read_is_looked_at_from_its_beginning(world: World):
    world.write_employees(5)
    with sample(world.topics) as records:
        assert next(records).body == employee(1)
    assert set(world.committed().values()) == {None}
    topics = replace(world.topics, topics=[world.topic, ""])
    with pytest.raises(BrokerUnavailable, match="has no topic"), sample(topics):
        pass


def test_what_does_not_answer_is_told_and_the_others_are_looked_at(tmp_path: Path, sqs: EmbeddedSqs):
    queue = fill(sqs, '{"ids": [1]}')
    away = SQS.format(queue="far").replace("employees_dlq", "far") + f'endpoint = "http://127.0.0.1:{AWAY}"\n'
    cli = command_line(tmp_path, port=sqs.port, more=away.replace('map.employeeId = "@"\n', "") + 'map.employeeId = "@"\n')
    views, told = look(cli, code=5)
    assert (views, told[-1]["error"]) == ([], "not read: far")
    (cli.folder / "redrive.toml").write_text((cli.folder / "redrive.toml").read_text() + SQS.format(queue=queue))
    views, told = look(cli, code=3)
    assert views[-1]["records"] == 1
    assert told[-1]["error"] == "not read: far"


@pytest.mark.parametrize(
    ("options", "told", "hint"),
    [
        (["--dry-run", "--source", "employes_dlq"], "there is no source 'employes_dlq'", "did you mean employees_dlq?"),
        (["--dry-run", "--source", "celery"], "there is no source 'celery'", "employees_dlq"),
        (["--source", "employees_dlq"], "--source and --limit are for --dry-run", "drains every source"),
        (["--limit", "3"], "--source and --limit are for --dry-run", "drains every source"),
    ],
)
def test_what_is_wrong_is_refused(tmp_path: Path, options: list[str], told: str, hint: str):
    cli = command_line(tmp_path, more=SQS.format(queue="letters"))
    error = cli.error("intake", *options, code=2)
    assert error["error"] == told
    assert hint in error["hint"]


def test_without_sources_there_is_nothing_to_look_at(tmp_path: Path):
    done = command_line(tmp_path).run("intake", "--dry-run", refused=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "redrive: there are no records\n")
