"""`redrive send`: everything is checked first, recorded once, and rung for if SQS is there."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from command_line import CommandLine, command_line, depth
from sqlalchemy import select

from tasks.dlq.schema import dead_letters

if TYPE_CHECKING:
    from pathlib import Path

    from tasks.devstack.sqs import EmbeddedSqs


@pytest.fixture
def away(tmp_path: Path) -> CommandLine:
    """Where SQS does not answer."""
    return command_line(tmp_path)


def test_a_failure_is_recorded_and_a_worker_is_woken(tmp_path: Path, sqs: EmbeddedSqs):
    cli = command_line(tmp_path, port=sqs.port)
    done = cli.run("send", "employees", "employeeId=42")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("job 1: employees employeeId=42 (scheduled, in ")
    assert depth(cli, sqs, "redrive-recovery") == 1

    (job,) = cli.json("send", "employees", "employeeId=42")
    assert (job["id"], job["needs"], job["state"]) == (1, 2, "scheduled"), "the same entity: the same job, another need"
    assert depth(cli, sqs, "redrive-recovery") == 1, "its bell is out already"

    with cli.ledger() as ledger, ledger.begin() as tx:
        letters = tx.connection.execute(select(dead_letters)).all()
    assert len({letter.identity for letter in letters}) == 2, "each sending has an identity of its own"
    assert {letter.source for letter in letters} == {"cli"}
    assert "@" in json.loads(letters[0].origin)["sent_by"]


def test_without_sqs_it_is_recorded_all_the_same(away: CommandLine):
    done = away.run("send", "employees", "employeeId=1")
    assert done.returncode == 0
    assert done.stdout.startswith("job 1: ")
    assert "it is in the ledger, but the wake-up was not sent" in done.stderr
    assert "beat's next sweep rings again" in done.stderr
    (audit,) = away.json("audit")
    assert (audit["accepted"], audit["pending"]) == (1, 1)


@pytest.mark.parametrize(
    ("arguments", "told", "hint"),
    [
        (["employes", "employeeId=1"], "there is no route 'employes'", "did you mean employees?"),
        (["employees", "employeId=1"], "unknown parameter 'employeId'", "did you mean employeeId?"),
        (["employees"], "parameter employeeId is missing", "employeeId must be a positive integer"),
        (["employees", "employeeId=-1"], "parameter employeeId is '-1'", "employeeId must be a positive integer"),
        (["employees", "employeeId"], "'employeeId' is no NAME=VALUE", "for example: redrive send employees employeeId=1234"),
        (["employees", "employeeId=1", "employeeId=2"], "'employeeId' is given twice", "--file"),
        (["teams", "name=../admin"], "parameter name is '../admin'", "dot segments"),
        (["teams", "name=a\x1b[31mb"], "parameter name is 'a\\x1b[31mb'", "control characters"),
        (["employees", "--file", "none.jsonl"], "cannot read 'none.jsonl': No such file or directory", "JSON object a line"),
        (["employees", "employeeId=1", "--file", "f"], "--file and NAME=VALUE cannot be given together", "leave one"),
    ],
)
def test_what_is_wrong_is_refused_before_anything_is_done(away: CommandLine, arguments: list[str], told: str, hint: str):
    error = away.error("send", *arguments, code=2)
    assert error["error"] == told
    assert hint in error["hint"]
    assert not (away.folder / ".redrive").exists()


LINES = (
    b'{"employeeId": 1}\n\n'
    b'{"employeeId": "2"}\r\n'
    b"not json\n"
    b"[1]\n"
    b'{"employeId": 3}\n'
    b'{"employeeId": 1}\n'
    b"\xff\n"
    b'{"employeeId": ' + b"9" * 5000 + b"}\n" + b"[" * 100_000 + b"\n" + b"x" * (3 << 20) + b"\n"
    b'{"employeeId": 4}'
)


def test_a_files_wrong_lines_are_told_and_the_others_recorded(away: CommandLine):
    done = away.run("send", "employees", "--file", "-", "--json", stdin=LINES)
    assert done.returncode == 3
    jobs = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(job["line"], job["parameters"]["employeeId"]) for job in jobs] == [(1, "1"), (3, "2"), (7, "1"), (12, "4")]
    *warnings, error = [json.loads(line) for line in done.stderr.splitlines()]
    assert (error["error"], error["exit_code"]) == ("4 lines recorded, 7 refused", 3)
    assert [each["line"] for each in warnings if "line" in each] == [4, 5, 6, 8, 9, 10, 11]
    assert "did you mean employeeId?" in warnings[2]["hint"]
    (audit,) = away.json("audit")
    assert (audit["accepted"], audit["rejected"]) == (4, 0)


def test_a_file_of_nothing_but_wrong_lines_is_wrong_usage(away: CommandLine):
    (away.folder / "f.jsonl").write_text("not json\n")
    done = away.run("send", "employees", "--file", "f.jsonl")
    assert done.returncode == 2
    assert done.stderr.splitlines()[0].startswith("redrive: line 1: the body is not JSON")
    assert "redrive: 0 lines recorded, 1 refused\n" in done.stderr


def test_a_long_file_goes_in_by_batches(away: CommandLine):
    (away.folder / "f.jsonl").write_text("".join(f'{{"employeeId": {n % 300 + 1}}}\n' for n in range(1000)))
    done = away.run("send", "employees", "--file", "f.jsonl")
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == 1000
    assert "redrive: 1,000 lines recorded, 0 refused\n" in done.stderr
    (stats,) = [each for each in away.json("stats") if each["route"] == "employees"]
    assert stats["jobs"]["scheduled"] == 300
