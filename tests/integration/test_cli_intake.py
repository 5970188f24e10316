"""`redrive intake` as a process: drains what is there, outlives outages, and ends cleanly when it is told to."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from command_line import AWAY, CommandLine, client_of, command_line, depth
from sqlalchemy import text
from waiting import TEST_TIMEOUT, until

from tasks.devstack import child, server
from tasks.devstack.sqs import EmbeddedSqs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    Start = Callable[[CommandLine], "Intake"]

SOURCE = """
[sources.employees_dlq]
kind = "sqs"
queue = "{queue}"
route = "employees"
map.employeeId = "employeeId"
"""
ELSEWHERE = f"""
[sources.elsewhere]
kind = "sqs"
queue = "elsewhere"
endpoint = "http://127.0.0.1:{AWAY}"
route = "employees"
map.employeeId = "employeeId"
"""


def prepare(folder: Path, port: int, more: str = "") -> tuple[CommandLine, str]:
    queue = f"{folder.name[-30:]}-dlq".replace("_", "-")
    return command_line(folder, port=port, more=SOURCE.format(queue=queue) + more), queue


def put(sqs: EmbeddedSqs, queue: str, *bodies: str) -> None:
    """Send messages as any language would; make the queue if Redrive has not yet."""
    client = client_of(sqs)
    url = client.create_queue(QueueName=queue)["QueueUrl"]
    for body in bodies:
        client.send_message(QueueUrl=url, MessageBody=body)
    client.close()


class Intake:
    """A running `redrive intake`."""

    def __init__(self, cli: CommandLine) -> None:
        self.file = cli.folder / "intake.log"
        with self.file.open("wb") as log:
            command = [sys.executable, "-m", "tasks.cli", "intake"]
            self.process = subprocess.Popen(command, env=cli.env, cwd=cli.folder, stdout=log, stderr=log)

    def events(self) -> list[str]:
        return [json.loads(line)["event"] for line in self.log.splitlines()]

    @property
    def log(self) -> str:
        return self.file.read_text()

    def wait_for(self, event: str) -> None:
        until(lambda: f'"{event}"' in self.log, what=f"{event!r} in {self.log}")

    def end(self, number: int = signal.SIGTERM) -> int:
        """Send a signal; a long poll lasts 20 s, and is not waited for."""
        self.process.send_signal(number)
        return self.process.wait(TEST_TIMEOUT)


@pytest.fixture
def start() -> Iterator[Start]:
    started: list[Intake] = []

    def begin(cli: CommandLine) -> Intake:
        started.append(Intake(cli))
        return started[-1]

    yield begin
    for each in started:
        each.process.kill()
        each.process.wait()


def test_once_drains_what_is_there_and_ends(tmp_path: Path, sqs: EmbeddedSqs):
    cli, queue = prepare(tmp_path, sqs.port)
    put(sqs, queue, *(json.dumps({"employeeId": n % 7 + 1}) for n in range(25)), "not json")
    rows = cli.json("intake", "--once")
    assert rows[0] == {"source": "employees_dlq", "accepted": 26, "known": 0, "rejected": 1}
    assert depth(cli, sqs, queue, prefixed=False) == 0, "deleted, as it is committed"
    (audit,) = cli.json("audit")
    assert (audit["accepted"], audit["pending"], audit["rejected"]) == (26, 25, 1)
    assert depth(cli, sqs, "redrive-recovery") == 7, "a bell for each job, and the queues were made at the start"
    done = cli.run("intake", "--once")
    assert done.stdout.splitlines()[1].split() == ["employees_dlq", "0", "0", "0"]
    assert "draining employees_dlq and celery" in done.stderr


def test_once_tells_which_source_was_not_drained(tmp_path: Path, sqs: EmbeddedSqs):
    cli, queue = prepare(tmp_path, sqs.port, ELSEWHERE)
    put(sqs, queue, '{"employeeId": 1}')
    done = cli.run("intake", "--once", "--json", REDRIVE_BROKER__MANAGE_QUEUES="false")
    assert done.returncode == 3
    assert json.loads(done.stdout.splitlines()[0])["accepted"] == 1
    warnings = [json.loads(line) for line in done.stderr.splitlines() if "warning" in json.loads(line)]
    assert {"elsewhere"} <= {each["source"] for each in warnings}


def test_once_without_sqs_is_out_of_reach(tmp_path: Path):
    cli, _ = prepare(tmp_path, AWAY)
    done = cli.run("intake", "--once")
    assert done.returncode == 5
    assert "SQS does not answer" in done.stderr
    assert "see whether SQS runs at broker.url" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_drains_until_it_is_told_to_end(tmp_path: Path, sqs: EmbeddedSqs, start: Start, number: int):
    cli, queue = prepare(tmp_path, sqs.port)
    intake = start(cli)
    intake.wait_for("intake_started")
    put(sqs, queue, '{"employeeId": 1}', '{"employeeId": 2}')
    intake.wait_for("records_taken")
    until(lambda: cli.json("audit")[0]["accepted"] == 2)
    assert intake.end(number) == 0
    assert intake.events()[-1] == "intake_stopping"


def test_it_waits_for_sqs_and_no_source_waits_for_another(tmp_path: Path, start: Start, monkeypatch: pytest.MonkeyPatch):
    port = child.free_port()
    cli, queue = prepare(tmp_path, port, ELSEWHERE)
    intake = start(cli)
    intake.wait_for("source_unavailable")
    monkeypatch.setattr(server.child, "free_port", lambda: port)
    with EmbeddedSqs() as sqs:
        put(sqs, queue, '{"employeeId": 1}')
        intake.wait_for("records_taken")
        (audit,) = cli.json("audit")
        assert audit["sources"]["employees_dlq"]["accepted"] == 1
        assert intake.end() == 0


def test_an_outdated_ledger_is_a_persons_decision(tmp_path: Path, sqs: EmbeddedSqs):
    cli, _ = prepare(tmp_path, sqs.port)
    with cli.ledger() as ledger, ledger.begin() as tx:
        tx.connection.execute(text("UPDATE alembic_version SET version_num = '0001'"))
    done = cli.run("intake")
    assert done.returncode == 5
    assert "run: redrive db upgrade" in done.stderr
