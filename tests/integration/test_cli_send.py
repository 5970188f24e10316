"""`redrive send`: everything is checked first, recorded once, and rung for if SQS is there."""

from __future__ import annotations

import gzip
import json
import os
import re
import subprocess
import sys
import traceback
from typing import TYPE_CHECKING

import pytest
from command_line import CommandLine, command_line, depth
from sqlalchemy import select
from waiting import TEST_TIMEOUT, until

from tasks.cli import session
from tasks.dlq.errors import BrokerUnavailable
from tasks.dlq.ledger.schema import dead_letters

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
    assert "no worker was woken: " in done.stderr
    assert "beat's next sweep" in done.stderr
    (audit,) = away.json("audit")
    assert (audit["accepted"], audit["pending"]) == (1, 1)


def test_an_error_that_is_raised_for_each_wakeup_does_not_grow():
    """A long file leads to thousands of wake-ups. The traceback of an error that is raised again grows each time."""
    sender = session.LazySender()
    sender.error = BrokerUnavailable("away")
    depths = set()
    for _ in range(3):
        with pytest.raises(BrokerUnavailable) as caught:
            sender.send(1, delay=0)
        depths.add(len(traceback.extract_tb(caught.value.__traceback__)))
    assert len(depths) == 1


@pytest.mark.parametrize(
    ("arguments", "told", "hint"),
    [
        (["employes", "employeeId=1"], "there is no route 'employes'", "did you mean employees?"),
        (["employees", "employeId=1"], "unknown parameter 'employeId'", "did you mean employeeId?"),
        (["employees"], "parameter employeeId is missing", "employeeId must be a positive integer"),
        (["employees", "employeeId=-1"], "parameter employeeId is '-1'", "employeeId must be a positive integer"),
        (["employees", "employeeId"], "'employeeId' is not NAME=VALUE", "for example: redrive send employees employeeId=1234"),
        (["employees", "employeeId=1", "employeeId=2"], "'employeeId' is given twice", "--file"),
        (["teams", "name=../admin"], "parameter name is '../admin'", "dot segments"),
        (["teams", "name=a\x1b[31mb"], "parameter name is 'a\\x1b[31mb'", "control characters"),
        (["employees", "--file", "none.jsonl"], "cannot read 'none.jsonl': No such file or directory", "JSON object per line"),
        (["employees", "--file", "."], "cannot read '.': Is a directory", "JSON object per line"),
        (["employes", "--file", "none.jsonl"], "there is no route 'employes'", "did you mean employees?"),
        (["employees", "employeeId=1", "--again"], "--again is for --file", "a new failure anyway"),
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


def test_a_files_wrong_lines_are_kept_and_told_and_the_others_recorded(away: CommandLine):
    done = away.run("send", "employees", "--file", "-", "--json", stdin=LINES)
    assert done.returncode == 3
    jobs = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(job["line"], job["parameters"]["employeeId"]) for job in jobs] == [(1, "1"), (3, "2"), (7, "1"), (12, "4")]
    *warnings, error = [json.loads(line) for line in done.stderr.splitlines()]
    assert (error["error"], error["exit_code"]) == ("4 recorded, 7 rejected", 3)
    assert "redrive repair" in error["hint"]
    assert {each["line"]: each["reason"] for each in warnings if "line" in each} == {
        4: "not-json",
        5: "no-object",
        6: "invalid-parameter",
        8: "not-utf8",
        9: "integer-too-long",
        10: "too-deep",
        11: "too-large",
    }
    (audit,) = away.json("audit")
    assert (audit["accepted"], audit["pending"], audit["rejected"], audit["balanced"]) == (11, 4, 7, True)
    rejects = {each["id"]: each for each in away.json("rejects")}
    assert {each["letter"] for each in warnings if "line" in each} == rejects.keys()
    letter = next(each for each in rejects.values() if each["reject_reason"] == "not-json")
    assert letter["body"] == "not json"
    assert {name: letter["origin"][name] for name in ("route", "file", "line")} == {"route": "employees", "file": "-", "line": 4}


def test_the_same_file_twice_adds_nothing_unless_it_is_meant_to(away: CommandLine):
    (away.folder / "f.jsonl").write_bytes(LINES)
    away.run("send", "employees", "--file", "f.jsonl")
    done = away.run("send", "employees", "--file", str(away.folder / "f.jsonl"))
    assert done.returncode == 3
    assert len(done.stdout.splitlines()) == 4, "it tells the jobs of what is known, too"
    assert "4 lines; --again records all lines as new failures" in done.stderr
    assert "redrive: 4 known, 7 rejected\n" in done.stderr
    assert away.json("audit")[0]["accepted"] == 11

    again = away.run("send", "employees", "--file", "f.jsonl", "--again")
    assert "redrive: 4 recorded, 7 rejected\n" in again.stderr
    assert away.json("audit")[0]["accepted"] == 22


def test_a_file_of_nothing_but_wrong_lines_is_kept_all_the_same(away: CommandLine):
    (away.folder / "f.jsonl").write_text("not json\n" * 30)
    done = away.run("send", "employees", "--file", "f.jsonl")
    assert (done.returncode, done.stdout) == (3, "")
    told = done.stderr.splitlines()
    assert told[0].startswith("redrive: line 1: the body is not JSON")
    assert len([line for line in told if line.startswith("redrive: line ")]) == 20
    assert "redrive: more lines are rejected; redrive rejects lists them" in told
    assert "redrive: 30 rejected" in told


def test_a_long_file_goes_in_by_batches(away: CommandLine):
    (away.folder / "f.jsonl").write_text("".join(f'{{"employeeId": {n % 300 + 1}}}\n' for n in range(1000)))
    done = away.run("send", "employees", "--file", "f.jsonl")
    assert done.returncode == 0
    assert len(done.stdout.splitlines()) == 1000
    assert "redrive: 1,000 recorded\n" in done.stderr
    (stats,) = [each for each in away.json("stats") if each["route"] == "employees"]
    assert stats["jobs"]["scheduled"] == 300


def test_a_run_that_is_killed_is_resumed_by_running_it_again(away: CommandLine):
    """The first run reads from a pipe that stays open: it is killed after some batches, before the file's end."""
    lines = "".join(f'{{"employeeId": {n + 1}}}\n' for n in range(900)).encode()
    command = [sys.executable, "-m", "tasks.cli", "send", "employees", "--file", "-"]
    with subprocess.Popen(command, env=away.env, cwd=away.folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as killed:
        assert killed.stdin
        assert killed.stdout
        killed.stdin.write(lines[: len(lines) // 2])
        killed.stdin.flush()
        for _ in range(200):
            killed.stdout.readline()
        killed.kill()
    before = away.json("audit")[0]["accepted"]
    assert 200 <= before < 900

    (away.folder / "f.jsonl").write_bytes(lines)
    done = away.run("send", "employees", "--file", "f.jsonl")
    assert f"redrive: {900 - before} recorded, {before} known\n" in done.stderr
    (audit,) = away.json("audit")
    assert (audit["accepted"], audit["pending"], audit["balanced"]) == (900, 900, True)


def test_a_pipe_that_does_not_block_is_read_to_its_end(away: CommandLine):
    """While nothing is in it yet, a read that does not wait would take that for its end."""
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    command = [sys.executable, "-m", "tasks.cli", "send", "employees", "--file", "-"]
    with (
        os.fdopen(writing, "wb", buffering=0) as pipe,
        subprocess.Popen(
            command, env=away.env, cwd=away.folder, stdin=reading, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as sending,
    ):
        until(lambda: os.get_blocking(reading) or sending.poll() is not None, what="reads that wait")
        pipe.write(b'{"employeeId": 1}\n{"employee')
        pipe.write(b'Id": 2}\n')
        pipe.close()
        out, err = sending.communicate(timeout=TEST_TIMEOUT)
    os.close(reading)
    assert sending.returncode == 0, err
    assert len(out.splitlines()) == 2
    assert b"redrive: 2 recorded" in err


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (gzip.compress(b'{"employeeId": 1}\n', mtime=0), "the file is compressed by gzip"),
        ('{"employeeId": 1}\n'.encode("utf-16"), "the file is UTF-16"),
        (b"\xfe\xff" + '{"employeeId": 1}\n'.encode("utf-16-be"), "the file is UTF-16"),
        (b'[{"employeeId": 1}]', "the file is a JSON array"),
        (b'\xef\xbb\xbf\n \r\n  [\n  {"employeeId": 1}\n]\n', "the file is a JSON array"),
    ],
)
def test_a_file_of_another_format_is_refused_and_nothing_recorded(away: CommandLine, content: bytes, told: str):
    (away.folder / "f").write_bytes(content)
    error = away.error("send", "employees", "--file", "f", code=2)
    assert error["error"] == told
    assert error["hint"].startswith("write one JSON object per line, for example: ")
    assert not (away.folder / ".redrive").exists()


def test_on_a_terminal_a_bar_shows_how_far_it_is_and_data_stay_whole(away: CommandLine):
    (away.folder / "f.jsonl").write_text("".join(f'{{"employeeId": {n + 1}}}\n' for n in range(500)))
    with away.terminal("send", "employees", "--file", "f.jsonl") as terminal:
        assert terminal.end() == 0
    assert "100%" in terminal.seen
    assert "sending 'f.jsonl'" in terminal.seen
    shown = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", terminal.seen)
    assert len(re.findall(r"job \d+: employees employeeId=\d+ \(scheduled, in \d+s\)", shown)) == 500
    assert "redrive: 500 recorded" in shown
