"""`redrive repair`: what was rejected is read again, rung for, and never counted twice or lost."""

from __future__ import annotations

import base64
import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from command_line import CommandLine, command_line, depth
from sqlalchemy import select

from tasks.dlq.dead_letter import DeadLetter, Rejection
from tasks.dlq.ledger import dead_letters as letters
from tasks.dlq.ledger.schema import audit_log, dead_letters
from tasks.dlq.reading.reader import encode_submission
from tasks.names import SUBMIT

if TYPE_CHECKING:
    from pathlib import Path

    from tasks.devstack.sqs import EmbeddedSqs

SOURCE = """
[sources.employees_dlq]
kind = "sqs"
queue = "employees-dlq"
route = "employees"
map.employeeId = "{path}"
"""


def world(folder: Path, path: str = "employeeId", **how: Any) -> CommandLine:
    return command_line(folder, more=SOURCE.format(path=path), **how)


def put(cli: CommandLine, *bodies: bytes, source: str = "employees_dlq", reason: str = "no-match", **more: Any) -> list[int]:
    """Record rejected letters; return their ids."""
    rejection = Rejection(reason=reason, detail="as it was read then")
    column = dead_letters.c
    with cli.ledger() as ledger, ledger.begin() as tx:
        for body in bodies:
            letter = DeadLetter(source=source, identity=f"{body!r}", body=body, rejection=rejection, **more)
            letters.record_dead_letters(tx, [letter], delays={})
        made = select(column.id).where(column.source == source).order_by(column.id)
        return list(tx.connection.scalars(made))[-len(bodies) :]


def sums(cli: CommandLine) -> dict[str, int]:
    """Return the audit's sums that are not zero; it balances."""
    (audit,) = cli.json("audit")
    assert audit["balanced"]
    assert all(each["balanced"] for each in audit["sources"].values())
    return {name: count for name, count in audit.items() if type(count) is int and count}


def entries(cli: CommandLine) -> list[Any]:
    with cli.ledger() as ledger, ledger.begin(read_only=True) as tx:
        return list(tx.connection.execute(select(audit_log).order_by(audit_log.c.id)))


def employee(number: object) -> bytes:
    return json.dumps({"id": number}).encode()


def test_after_the_mapping_was_mended_all_are_read_again_and_called(tmp_path: Path, sqs: EmbeddedSqs):
    cli = world(tmp_path, "id", port=sqs.port)
    put(cli, employee(1), employee(2), b"not json")
    assert sums(cli) == {"accepted": 3, "rejected": 3}

    done = cli.run("repair", "--yes", "--reason", "the mapping is mended")
    assert done.returncode == 3
    assert [line.split() for line in done.stdout.splitlines()[1:]] == [
        ["employees_dlq", "repaired:", "employees", "2"],
        ["employees_dlq", "rejected", "again:", "not-json", "1"],
    ]
    assert done.stderr.splitlines() == [
        "redrive: 3 rejected dead letters: 3 no-match",
        "redrive: 2 repaired, 1 rejected again",
        "see why with: redrive rejects",
    ]
    assert sums(cli) == {"accepted": 3, "pending": 2, "rejected": 1}
    assert depth(cli, sqs, "redrive-recovery") == 2, "workers are woken"
    assert {job["parameters"]["employeeId"] for job in cli.json("jobs")} == {"1", "2"}
    assert [(each.action, each.reason, "@" in each.actor) for each in entries(cli)] == [
        ("repair", "the mapping is mended", True)
    ] * 2
    (left,) = cli.json("rejects")
    assert left["reject_reason"] == "not-json", "as it is read now"

    again = cli.json("repair", "--yes", code=3)
    assert [each["result"] for each in again] == ["rejected"]
    assert sums(cli) == {"accepted": 3, "pending": 2, "rejected": 1}


def test_a_dry_run_shows_what_would_become_of_them_and_changes_nothing(tmp_path: Path):
    cli = world(tmp_path, "id")
    put(cli, employee(1), employee("x"))
    put(cli, b"{}", source="gone")
    before = cli.json("rejects")

    done = cli.run("repair", "--dry-run")
    assert done.returncode == 0
    assert [line.split(maxsplit=1)[1].split() for line in done.stdout.splitlines()[1:]] == [
        ["repaired:", "employees", "1"],
        ["rejected", "again:", "invalid-parameter", "1"],
        ["left", "alone:", "its", "source", "is", "not", "configured", "1"],
    ]
    assert "1 would be repaired, 1 would be rejected again, 1 would be left alone; nothing was changed" in done.stderr
    first, *_ = cli.json("repair", "--dry-run")
    assert first == {
        "letter": before[-1]["id"],
        "source": "employees_dlq",
        "result": "repaired",
        "route": "employees",
        "parameters": [{"employeeId": "1"}],
        "dry_run": True,
    }
    assert cli.json("rejects") == before
    assert sums(cli) == {"accepted": 3, "rejected": 3}
    assert entries(cli) == []


def test_letters_of_a_source_that_is_gone_are_left_alone_and_it_is_said(tmp_path: Path):
    cli = world(tmp_path, "id")
    (letter,) = put(cli, employee(1), source="old_dlq")
    done = cli.run("repair", "--yes")
    assert done.returncode == 3
    assert "not in redrive.toml any more: source old_dlq" in done.stderr
    assert "configure it as it was" in done.stderr
    (cli.folder / "body.json").write_bytes(employee(1))
    error = cli.error("repair", str(letter), "--body", "body.json", code=2)
    assert "old_dlq" in error["error"]
    assert sums(cli) == {"accepted": 1, "rejected": 1}


def test_only_those_that_are_meant_oldest_first(tmp_path: Path):
    cli = world(tmp_path, "id")
    put(cli, *(employee(number) for number in (1, 2, 3)))
    put(cli, employee(4), reason="too-deep")
    put(cli, b'{"employeeId": 5}', source="cli", origin={"route": "employees"})

    def repaired(*options: str) -> list[str]:
        return [each["parameters"][0]["employeeId"] for each in cli.json("repair", "--dry-run", *options, refused=True)]

    assert repaired() == ["1", "2", "3", "4", "5"]
    assert repaired("--limit", "2") == ["1", "2"]
    assert repaired("--source", "cli") == ["5"]
    assert repaired("--rejected-for", "too-deep") == ["4"]
    none = cli.run("repair", "--rejected-for", "too-long")
    assert (none.returncode, none.stdout) == (0, "")
    assert "no rejected dead letter matches" in none.stderr

    assert len(cli.json("repair", "--yes", "--limit", "2")) == 2
    assert sums(cli) == {"accepted": 5, "pending": 2, "rejected": 3}


def test_one_is_read_from_another_body_and_the_bytes_that_arrived_are_kept(tmp_path: Path):
    cli = world(tmp_path, "id")
    arrived = b'\xff{"id": 7\x00\r\n'
    (letter,) = put(cli, arrived)
    cli.run("rejects", str(letter))

    (cli.folder / "empty.json").touch()
    error = cli.error("repair", str(letter), "--body", "empty.json", code=2)
    assert (error["error"], error["hint"]) == (
        f"letter {letter} would be rejected again: the body is empty",
        "nothing was changed",
    )
    assert sums(cli) == {"accepted": 1, "rejected": 1}

    (cli.folder / "mended.json").write_bytes(employee(7))
    done = cli.run("repair", str(letter), str(letter), "--body", "mended.json", "--reason", "cut off")  # twice the same is one
    assert (done.returncode, done.stdout) == (0, f"letter {letter}: repaired: employees employeeId=7\n")
    assert sums(cli) == {"accepted": 1, "pending": 1}
    (entry,) = entries(cli)
    assert entry.subject.startswith(f"letter {letter}, by the body sha256:")
    (shown,) = cli.json("show", "1")
    assert shown["dead_letters"][0]["body"] == employee(7).decode()
    (kept,) = cli.json("rejects", str(letter), "--body")
    assert base64.b64decode(kept["base64"]) == arrived

    again = cli.run("repair", str(letter), "--body", "mended.json")
    assert (again.returncode, again.stdout) == (3, f"letter {letter}: skipped, it is not rejected\n")
    assert sums(cli) == {"accepted": 1, "pending": 1}


def test_lines_of_a_file_and_submissions_are_read_as_they_were(tmp_path: Path):
    cli = world(tmp_path)
    cli.run("send", "employees", "--file", "-", stdin=b'{"employeeId": "x"}\n')
    message = base64.b64encode(
        json.dumps(
            {
                "headers": {"task": SUBMIT, "id": "1"},
                "content-type": "application/json",
                "properties": {},
                "body": json.dumps([["employees", {"employeeId": 3}], {}, {}]),
            }
        ).encode()
    )
    put(cli, encode_submission("employees", {"employeeId": 2}), message, b"no message", source="celery", reason="unknown-route")
    assert cli.json("repair", "--yes", code=3) != []
    assert {job["parameters"]["employeeId"] for job in cli.json("jobs")} == {"2", "3"}
    reasons = {each["source"]: each["reject_reason"] for each in cli.json("rejects")}
    assert reasons == {"cli": "invalid-parameter", "celery": "not-json"}

    (line,) = [each["id"] for each in cli.json("rejects") if each["source"] == "cli"]
    (done,) = cli.json("repair", str(line), "--body", "-", stdin=b'{"employeeId": 9}')
    assert (done["result"], done["parameters"]) == ("repaired", [{"employeeId": "9"}])
    assert sums(cli) == {"accepted": 4, "pending": 3, "rejected": 1}


def test_letters_by_their_ids(tmp_path: Path):
    cli = world(tmp_path, "id")
    first, second = put(cli, employee(1), b"not json")
    done = cli.run("repair", str(first), str(second), "99")
    assert done.returncode == 3
    assert done.stdout.splitlines()[0] == f"letter {first}: repaired: employees employeeId=1"
    assert done.stdout.splitlines()[1].startswith(f"letter {second}: rejected again: the body is not JSON")
    assert done.stdout.splitlines()[2] == "letter 99: not found"
    assert cli.run("repair", "99").returncode == 4
    assert cli.run("repair", str(first)).stdout == f"letter {first}: skipped, it is not rejected\n"


@pytest.mark.parametrize(
    ("arguments", "told", "hint"),
    [
        (["repair"], "1 dead letter would be read again, and there is no terminal to confirm it", "--dry-run shows"),
        (["repair", "--body", "-"], "--body is for one dead letter", "redrive repair 12 --body"),
        (["repair", "1", "2", "--body", "-"], "--body is for one dead letter", "redrive repair 12 --body"),
        (["repair", "1", "--body", "none.json"], "cannot read 'none.json': No such file or directory", "whole body"),
        (["repair", "1", "--body", "."], "cannot read '.': Is a directory", "whole body"),
        (["rejects", "--body"], "--body is for one dead letter", "redrive rejects 12 --body"),
    ],
)
def test_what_is_wrong_is_refused_before_anything_is_done(tmp_path: Path, arguments: list[str], told: str, hint: str):
    cli = world(tmp_path, "id")
    put(cli, employee(1))
    done = cli.run(*arguments, "--json")
    assert (done.returncode, done.stdout) == (2, "")
    error = json.loads(done.stderr.splitlines()[-1])
    assert error["error"] == told
    assert hint in error["hint"]
    assert sums(cli) == {"accepted": 1, "rejected": 1}


@pytest.mark.parametrize("arguments", [["repair"], ["repair", "1", "--body", "-"], ["send", "employees", "--file", "-"]])
def test_without_a_standard_input_nobody_is_asked_and_nothing_read(tmp_path: Path, arguments: list[str]):
    cli = world(tmp_path, "id")
    put(cli, employee(1))
    command = ["sh", "-c", 'exec "$@" <&-', "sh", sys.executable, "-m", "tasks.cli", *arguments]
    done = subprocess.run(command, env=cli.env, cwd=cli.folder, capture_output=True, check=False, text=True)
    assert (done.returncode, "Traceback" in done.stderr) == (2, False), done.stderr
    assert ("there is no standard input" in done.stderr) == ("-" in arguments)


def test_nothing_to_repair_is_no_failure(tmp_path: Path):
    cli = world(tmp_path)
    cli.arrange("a")
    done = cli.run("repair")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "redrive: no dead letter is rejected\n")
    assert command_line(tmp_path).run("repair").returncode == 0


def test_on_a_terminal_it_asks(tmp_path: Path):
    cli = world(tmp_path, "id")
    put(cli, employee(1), b"not json")
    with cli.terminal("repair") as terminal:
        terminal.wait_for("[y/N]")
        assert "2 rejected dead letters: 2 no-match" in terminal.seen
        terminal.type("n")
        assert terminal.end() == 1
    assert sums(cli) == {"accepted": 2, "rejected": 2}
    with cli.terminal("repair") as terminal:
        terminal.wait_for("[y/N]")
        terminal.type("y")
        assert terminal.end() == 3
    assert terminal.lines[-2:] == ["redrive: 1 repaired, 1 rejected again", "see why with: redrive rejects"]
    titles, repaired, rejected = terminal.lines[-6:-3]
    assert [line.split()[-1] for line in (titles, repaired, rejected)] == ["Letters", "1", "1"]
    assert max(map(len, (repaired, rejected))) <= 80
    assert sums(cli) == {"accepted": 2, "pending": 1, "rejected": 1}


def test_a_rejected_letter_is_shown_with_its_origin_and_its_exact_bytes(tmp_path: Path):
    cli = world(tmp_path)
    arrived = b'{"employeeId":\x1b[31m\xff\r\n\x00'
    (letter,) = put(cli, arrived, origin={"topic": "employees"})
    done = cli.run("rejects", str(letter))
    assert "origin.topic  employees" in done.stdout
    assert "\x1b" not in done.stdout
    assert f"redrive repair {letter} --body {letter}.json" in done.stderr
    (shown,) = cli.json("rejects", str(letter))
    assert shown["reject_reason"] == "no-match"
    assert cli.run("rejects", "99").returncode == 4
    assert "redrive repair" in cli.run("rejects").stderr

    command = [sys.executable, "-m", "tasks.cli", "rejects", str(letter), "--body"]
    printed = subprocess.run(command, env=cli.env, cwd=cli.folder, capture_output=True, check=True)
    assert printed.stdout == arrived
    with cli.terminal(*command[3:]) as terminal:
        assert terminal.end() == 0
    assert "\x1b" not in terminal.seen
