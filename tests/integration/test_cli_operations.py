"""What a person decides: replay, discard, pause, resume. Each is compared with what the person saw, and written down."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from command_line import CommandLine, command_line, depth
from sqlalchemy import select, update

from tasks.dlq.ledger.schema import audit_log, routes

if TYPE_CHECKING:
    from pathlib import Path

    from tasks.devstack.sqs import EmbeddedSqs


@pytest.fixture
def cli(tmp_path: Path) -> CommandLine:
    return command_line(tmp_path)


@pytest.fixture
def on_sqs(tmp_path: Path, sqs: EmbeddedSqs) -> CommandLine:
    return command_line(tmp_path, port=sqs.port)


def written_down(cli: CommandLine) -> list[tuple[str, str, str]]:
    with cli.ledger() as ledger, ledger.begin() as tx:
        rows = tx.connection.execute(select(audit_log).order_by(audit_log.c.id)).all()
    assert all("@" in row.actor for row in rows)
    return [(row.action, row.subject, row.reason) for row in rows]


def states(cli: CommandLine) -> dict[int, str]:
    return {job["id"]: job["state"] for job in cli.json("jobs")}


def results(objects: list[dict[str, Any]]) -> list[tuple[int, str, str]]:
    return [(each["job"], each["result"], each.get("reason", "")) for each in objects]


def test_replay_opens_a_closed_job_and_wakes_a_worker(on_sqs: CommandLine, sqs: EmbeddedSqs):
    job_id = on_sqs.arrange("a", state="parked", attempts=8, crashes=1)
    done = on_sqs.run("replay", str(job_id), "--reason", "the API is mended")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"job {job_id}: replayed\n", "")
    (job,) = on_sqs.json("show", str(job_id))
    assert (job["state"], job["attempts"], job["crashes"]) == ("scheduled", 0, 0)
    assert depth(on_sqs, sqs, "redrive-recovery") == 1
    assert written_down(on_sqs) == [("replay", f"job {job_id}", "the API is mended")]


def test_replay_tells_of_each_job_and_does_what_it_can(cli: CommandLine):
    parked = cli.arrange("a", employee=1, state="parked")
    waiting = cli.arrange("b", employee=2)
    foreign = cli.arrange("c", employee=3, route="gone", state="parked")
    ids = [str(each) for each in (parked, waiting, foreign, 99, parked)]
    assert results(cli.json("replay", *ids, code=3)) == [
        (parked, "replayed", ""),
        (waiting, "skipped", "it is scheduled"),
        (foreign, "skipped", "its route is not in redrive.toml"),
        (99, "not_found", ""),
    ]
    done = cli.run("replay", "98", "99")
    assert (done.returncode, done.stdout) == (4, "job 98: not found\njob 99: not found\n")
    assert "redrive jobs" in done.stderr
    assert written_down(cli) == [("replay", f"job {parked}", "")]


def test_discard_wants_a_yes(cli: CommandLine):
    job_id = cli.arrange("a", state="parked")
    error = cli.error("discard", str(job_id), code=2)
    assert (error["error"].split(",")[0], error["hint"]) == ("1 job would be discarded", "add --yes")
    assert states(cli) == {job_id: "parked"}
    assert results(cli.json("discard", str(job_id), "--yes", "--reason", "left the company")) == [(job_id, "discarded", "")]
    assert written_down(cli) == [("discard", f"job {job_id}", "left the company")]
    (audit,) = cli.json("audit")
    assert (audit["discarded"], audit["balanced"]) == (1, True)
    assert results(cli.json("discard", str(job_id), "--yes", code=3)) == [(job_id, "skipped", "it is discarded")]


def test_data_come_before_what_is_said_about_them(cli: CommandLine):
    job_id = cli.arrange("a", state="completed")
    command = [sys.executable, "-m", "tasks.cli", "discard", str(job_id), "--yes"]
    done = subprocess.run(command, env=cli.env, cwd=cli.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    assert done.stdout.decode().splitlines()[:2] == [f"job {job_id}: skipped, it is completed", "redrive: 1 skipped"]


def test_on_a_terminal_discard_asks(cli: CommandLine):
    job_id = cli.arrange("a", state="parked", detail="HTTP 404\x1b[2J")
    with cli.terminal("discard", str(job_id)) as terminal:
        terminal.wait_for("Discard 1 job? [y/N]:")
        terminal.type("n")
        assert terminal.end() == 1
    assert f"redrive: job {job_id}: parked, employees employeeId=1, HTTP 404\\x1b[2J" in terminal.seen
    assert "nothing was done" in terminal.seen
    assert states(cli) == {job_id: "parked"}
    with cli.terminal("discard", str(job_id)) as terminal:
        terminal.wait_for("[y/N]:")
        terminal.type("y")
        assert terminal.end() == 0
    assert states(cli) == {job_id: "discarded"}


def test_what_changed_since_it_was_seen_is_not_discarded(cli: CommandLine):
    job_id = cli.arrange("a")
    with cli.terminal("discard", str(job_id)) as terminal:
        terminal.wait_for("[y/N]:")
        cli.arrange("b")  # the same entity failed once more while the person thought about it
        terminal.type("y")
        assert terminal.end() == 3
    assert f"job {job_id}: skipped, changed meanwhile" in terminal.seen
    assert states(cli) == {job_id: "scheduled"}
    assert written_down(cli) == []


def test_ctrl_c_at_the_question_does_nothing(cli: CommandLine):
    job_id = cli.arrange("a", state="parked")
    with cli.terminal("discard", str(job_id)) as terminal:
        terminal.wait_for("[y/N]:")
        terminal.process.send_signal(2)
        assert terminal.end() in {1, 130}
    assert "Traceback" not in terminal.seen
    assert states(cli) == {job_id: "parked"}


def test_who_adds_work_to_a_paused_route_is_told(on_sqs: CommandLine):
    on_sqs.run("db", "upgrade")
    on_sqs.run("pause", "employees")
    told = on_sqs.run("send", "employees", "employeeId=7").stderr
    assert "employees is paused: no call is made until redrive resume employees" in told
    on_sqs.run("resume", "employees")
    assert "paused" not in on_sqs.run("send", "employees", "employeeId=8").stderr


def test_a_route_is_paused_once_and_resumed_with_a_bell(on_sqs: CommandLine, sqs: EmbeddedSqs):
    cli = on_sqs
    cli.arrange("a", due_at=0)
    assert cli.json("pause", "employees", "--reason", "deploy") == [{"route": "employees", "paused": True, "changed": True}]
    assert cli.json("pause", "employees", "--reason", "other") == [{"route": "employees", "paused": True, "changed": False}]
    (stats,) = cli.json("stats")
    assert (stats["paused"], stats["pause_reason"]) == (True, "deploy"), "the first reason stands"

    with cli.ledger() as ledger, ledger.begin() as tx:  # beat rang just before the pause, and would be patient now
        tx.connection.execute(update(routes).values(swept_at=tx.now(), sweep_timeout=300_000))
    assert cli.run("resume", "employees").stdout == "route employees is resumed\n"
    assert depth(cli, sqs, "redrive-recovery") == 1, "what is due is called at once"
    assert cli.run("resume", "employees").stdout == "route employees was not paused\n"
    assert written_down(cli) == [("pause", "route employees", "deploy"), ("resume", "route employees", "")]
    assert cli.error("pause", "emploees", code=2)["hint"] == "did you mean employees?"
