"""The commands that only look: data on stdout, messages on stderr, and honest exit codes."""

from __future__ import annotations

import csv
import io
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from command_line import CommandLine, command_line
from sqlalchemy import insert, text

from tasks.dlq.ledger.schema import attempts

if TYPE_CHECKING:
    from pathlib import Path

HOSTILE = "HTTP 404: \x1b[2J[red]no\n9 such"


@pytest.fixture
def cli(tmp_path: Path) -> CommandLine:
    return command_line(tmp_path)


@pytest.fixture
def filled(cli: CommandLine) -> CommandLine:
    """Two parked jobs, one that waits with two needs, and a rejected letter."""
    cli.arrange("a", employee=1, state="parked", outcome="hopeless", status=404, detail=HOSTILE, group_key="g404")
    cli.arrange("b", employee=2, state="parked", outcome="hopeless", status=404, detail=HOSTILE, group_key="g404")
    cli.arrange("c", employee=3)
    cli.arrange("d", employee=3)
    cli.reject("e", b"\xff\x1b[31m", "not-json", "the body is not UTF-8")
    return cli


@pytest.mark.parametrize(
    "command", [["jobs"], ["show", "1"], ["audit"], ["stats"], ["rejects"], ["pause", "employees"], ["replay", "1"]]
)
def test_a_command_that_looks_makes_no_ledger(cli: CommandLine, command: list[str]):
    error = cli.error(*command, code=5)
    assert "there is no ledger at sqlite:///.redrive/ledger.db" in error["error"]
    assert "redrive db upgrade" in error["hint"]
    assert not (cli.folder / ".redrive").exists()


def test_nobody_else_reads_what_lies_in_the_state_directory(cli: CommandLine):
    cli.run("db", "upgrade")
    assert (cli.folder / ".redrive" / "ledger.db").exists()
    assert (cli.folder / ".redrive").stat().st_mode & 0o077 == 0


@pytest.mark.parametrize("command", [["send", "employees", "employeeId=1"], ["jobs"], ["db", "upgrade"], ["intake"]])
def test_a_state_directory_that_is_none_is_named_itself(cli: CommandLine, command: list[str]):
    error = cli.error(*command, code=2, REDRIVE_STATE_DIR="/dev/null")
    assert error["error"] == "the state directory /dev/null is not a directory"
    assert error["hint"].startswith("REDRIVE_STATE_DIR")
    error = cli.error("send", "employees", "employeeId=1", code=2, REDRIVE_STATE_DIR="/dev/null/below")
    assert error["error"] == "the state directory /dev/null/below cannot be created: Not a directory"


def test_an_empty_file_is_an_empty_ledger(cli: CommandLine):
    (cli.folder / ".redrive").mkdir()
    (cli.folder / ".redrive" / "ledger.db").touch()
    assert "is empty" in cli.error("jobs", code=5)["error"]


def test_a_ledger_of_another_version_is_told_and_not_touched(cli: CommandLine):
    with cli.ledger() as ledger, ledger.begin() as tx:
        tx.connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    for command in (["jobs"], ["db", "upgrade"]):
        error = cli.error(*command, code=5)
        assert "9999" in error["error"]
        assert error["hint"] == "a newer Redrive wrote it: install that version"


def test_db_upgrade_makes_a_ledger_once(cli: CommandLine):
    (first,) = cli.json("db", "upgrade")
    (second,) = cli.json("db", "upgrade")
    assert first["before"] is None
    assert first["after"] == second["before"] == second["after"]
    assert cli.run("db", "upgrade").stdout == f"the ledger at sqlite:///.redrive/ledger.db is up to date: {first['after']}\n"
    assert cli.run("jobs").stderr == "redrive: there are no jobs yet\n"


def test_jobs_are_listed_newest_first_and_page_by_page(filled: CommandLine):
    assert [job["id"] for job in filled.json("jobs")] == [3, 2, 1]
    done = filled.run("jobs", "--limit", "2")
    assert [line.split()[0] for line in done.stdout.splitlines()] == ["ID", "3", "2"]
    assert done.stderr == "redrive: there may be more: --after 2\n"
    assert [job["id"] for job in filled.json("jobs", "--after", "2")] == [1]


def test_jobs_are_found_by_state_route_and_group(filled: CommandLine):
    assert [job["id"] for job in filled.json("jobs", "--state", "parked", "--state", "scheduled")] == [3, 2, 1]
    assert [job["id"] for job in filled.json("jobs", "--state", "parked", "--group", "g404", "--route", "employees")] == [2, 1]
    assert filled.json("jobs", "--state", "discarded") == []
    assert filled.json("jobs", "--route", "teams") == []
    assert filled.error("jobs", "--route", "emploees", code=2)["hint"] == "did you mean employees?"


def test_a_job_is_shown_with_all_that_belongs_to_it(filled: CommandLine):
    (job,) = filled.json("show", "3")
    assert (job["state"], job["needs"], job["covered"]) == ("scheduled", 2, 0)
    assert [letter["identity"] for letter in job["dead_letters"]] == ["d", "c"]
    out = filled.run("show", "1").stdout
    assert "parameters   employeeId=1\n" in out
    assert "last answer  HTTP 404: \\x1b[2J[red]no\\n9 such\n" in out, "data is escaped, on one line"
    error = filled.error("show", "99", code=4)
    assert (error["error"], error["hint"]) == ("no job 99", "list them with: redrive jobs")


def test_no_data_reaches_a_terminal_unescaped(filled: CommandLine):
    for command in (["jobs"], ["show", "1"], ["rejects"]):
        with filled.terminal(*command) as terminal:
            assert terminal.end() == 0
        assert "\x1b[2J" not in terminal.seen
        assert "\x1b[31m\\" not in terminal.seen
        assert max(len(line) for line in terminal.lines) <= 80, command


def test_the_audit_is_a_proof_with_an_exit_code(filled: CommandLine):
    (audit,) = filled.json("audit")
    sums = {name: audit[name] for name in ("accepted", "recovered", "pending", "parked", "discarded", "rejected", "lost")}
    assert sums == {"accepted": 5, "recovered": 0, "pending": 2, "parked": 2, "discarded": 0, "rejected": 1, "lost": 0}
    assert audit["balanced"] is True
    assert audit["sources"]["employees_dlq"]["accepted"] == 5
    done = filled.run("audit")
    assert done.stdout.splitlines()[-1] == "balanced: 5 dead letters accepted, every one accounted for"

    with filled.ledger() as ledger, ledger.begin() as tx:
        tx.connection.execute(text("DELETE FROM dead_letters WHERE identity = 'e'"))
    done = filled.run("audit")
    assert done.returncode == 1
    assert done.stdout.splitlines()[1].split() == ["employees_dlq", "5", "0", "2", "2", "0", "0", "1"]
    assert "redrive: NOT BALANCED: lost (below zero: counted twice): employees_dlq +1\n" in done.stderr
    (audit,) = filled.json("audit", code=1)
    assert (audit["balanced"], audit["lost"]) == (False, 1)


def test_stats_count_by_route_and_state_and_tell_what_holds_a_route_up(filled: CommandLine):
    filled.run("pause", "employees", "--reason", "deploy")
    with filled.ledger() as ledger, ledger.begin() as tx:
        tx.connection.execute(text("UPDATE routes SET breaker_open = 1, not_before = 99999999999999"))
    (employees,) = filled.json("stats")
    assert (employees["route"], employees["paused"], employees["breaker"]) == ("employees", True, "open")
    assert employees["jobs"] == {
        "scheduled": 1, "executing": 0, "retryable": 0, "completed": 0, "parked": 2, "discarded": 0,
    }  # fmt: skip
    lines = filled.run("stats").stdout.splitlines()
    assert lines[1].split() == ["employees", "1", "0", "0", "0", "2", "0"]
    assert "paused by" in lines[2]
    assert lines[2].endswith(": deploy")
    assert "redrive resume employees" in lines[3]
    assert "the breaker is open" in lines[4]
    assert "Retry-After" in lines[5]


def test_stats_leave_out_a_route_that_is_not_configured_unless_it_has_jobs(filled: CommandLine):
    filled.arrange("f", route="gone", employee=4)
    with filled.ledger() as ledger, ledger.begin() as tx:
        tx.connection.execute(text("INSERT INTO routes (name) VALUES ('employees'), ('empty'), ('gone') ON CONFLICT DO NOTHING"))
        tx.connection.execute(text("UPDATE routes SET paused_at = 1, paused_by = 'a@b' WHERE name = 'gone'"))
    assert [(each["route"], each["configured"]) for each in filled.json("stats")] == [("employees", True), ("gone", False)]
    lines = filled.run("stats").stdout.splitlines()
    assert lines[2].split() == ["gone", "1", "0", "0", "0", "0", "0"]
    assert lines[-1].startswith("gone is not in redrive.toml any more")
    assert "redrive resume gone" not in "\n".join(lines), "that is refused"


@pytest.mark.parametrize(
    ("state", "budget"),
    [
        ("retryable", "2 of 8 attempts used since it was scheduled; not counted: 1,201 calls (made before that)"),
        ("parked", "2 of 8 attempts used since it was scheduled; not counted: 1,201 calls (made before that)"),
        ("completed", "8 attempts, for a later failure or a replay"),
    ],
)
def test_a_job_tells_its_calls_and_its_budget_apart(cli: CommandLine, state: str, budget: str):
    job_id = cli.arrange("a", state=state, attempts=2, calls=1203)
    out = cli.run("show", str(job_id)).stdout
    assert f"calls        1,203 in total\nbudget       {budget}\n" in out


def test_rejects_are_listed_with_their_reason(filled: CommandLine):
    (letter,) = filled.json("rejects")
    assert (letter["identity"], letter["reject_reason"], letter["bytes"]) == ("e", "not-json", 6)
    assert "the body is not UTF-8" in filled.run("rejects", "--rejected-for", "not-json").stdout
    done = filled.run("rejects", "--rejected-for", "too-deep")
    assert done.stdout == ""
    assert done.stderr == "redrive: no rejected dead letter matches; reasons: not-json\n"


def test_attempts_that_ended_alike_are_one_row_and_free_ones_are_explained(cli: CommandLine):
    job_id = cli.arrange("a", state="retryable", attempts=2, calls=38)
    outcomes = ["conflict", *["deadline"] * 34, "not_sent", "conflict", None]
    with cli.ledger() as ledger, ledger.begin() as tx:
        now = tx.now()
        common = {"job_id": job_id, "fence": 1, "covers_seq": 1, "worker": "w"}
        rows = [
            {**common, "number": n, "token": f"{n:032}", "began_at": now - 60_000 * (40 - n), "outcome": each, "detail": each}
            for n, each in enumerate(outcomes, start=1)
        ]
        tx.connection.execute(insert(attempts), rows)
    out = cli.run("show", str(job_id)).stdout
    _, _, table = out.partition("Answer\n")
    assert [line.split() for line in table.splitlines()[:5]] == [
        ["38", "2m", "ago", "open"],
        ["37", "3m", "ago", "conflict", "conflict"],
        ["36", "4m", "ago", "not_sent", "not_sent"],
        ["2", "to", "35", "38m", "ago", "to", "5m", "ago", "34", "x", "deadline", "deadline"],
        ["1", "39m", "ago", "conflict", "conflict"],
    ]
    assert "not counted: 36 calls (made before that or failed while the breaker was open or not sent)\n" in out
    (view,) = cli.json("show", str(job_id))
    assert len(view["attempts_made"]) == 38, "machines get each"


def test_config_shows_what_is_in_force_and_masks_secrets(cli: CommandLine):
    (described,) = cli.json("config", REDRIVE_WORKER__SLICE="7s")
    assert described["settings"]["worker.slice"] == {"value": "7s", "from": "REDRIVE_WORKER__SLICE"}
    done = cli.run("config")
    assert done.returncode == 0
    assert "only-here" not in done.stdout
    assert done.stderr == f"redrive: read from {cli.folder}/redrive.toml\n"
    assert described["file"] == f"{cli.folder}/redrive.toml"


def test_config_shows_values_as_people_write_them(cli: CommandLine):
    colours = {"REDRIVE_ROUTES__TEAMS__PARAMS__NAME": '{"enum": ["red", "grün"]}'}
    assert '{ enum = ["red", "grün"] }' in cli.run("config", **colours).stdout


def test_without_a_file_it_is_told_where_one_would_be(cli: CommandLine):
    (cli.folder / "redrive.toml").unlink()
    assert cli.run("config").stderr.endswith(f": {cli.folder}/redrive.toml (not there)\n")
    assert f"{cli.folder}/redrive.toml (not there)" in cli.error("send", "employees", "employeeId=1", code=2)["hint"]


def test_a_wrong_config_is_refused_by_every_command_with_file_and_key(cli: CommandLine):
    (cli.folder / "redrive.toml").write_text('[routes.employees]\nurl = "https://x/{id}"\nparams.id = "number"\ndelay = "soon"\n')
    for command in (["jobs"], ["send", "employees", "id=1"], ["intake", "--once"], ["config"]):
        error = cli.error(*command, code=2)["error"]
        assert 'redrive.toml: routes.employees.params.id is "number"' in error
        assert 'redrive.toml: routes.employees.delay is "soon"' in error


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("postgresql://redrive:hidden@127.0.0.1:1/redrive", "Connection refused"),
        ("sqlite:///redrive.toml", "not a database"),
        ("sqlite:////proc/none/ledger.db", "there is no ledger"),
    ],
)
def test_a_ledger_that_cannot_be_reached_is_told_without_its_password(cli: CommandLine, url: str, told: str):
    error = cli.error("jobs", code=5, REDRIVE_LEDGER__URL=url)
    assert told in error["error"]
    assert "hidden" not in json.dumps(error)


def test_a_reader_that_has_had_enough_is_no_error(cli: CommandLine):
    with cli.ledger() as ledger, ledger.begin() as tx:
        tx.connection.execute(
            text(
                "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 3000) INSERT INTO jobs"
                " (route, key, state, due_at, last_seq, created_at, changed_at)"
                """ SELECT 'employees', '{"employeeId":"' || i || '"}', 'completed', 0, 1, 0, 0 FROM n"""
            )
        )
    command = f"{sys.executable} -m tasks.cli jobs --limit 3000 --json | head -1 >/dev/null; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], env=cli.env, cwd=cli.folder, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("141\n", "")
    for arguments in (["--help"], ["jobs", "--help"], [], ["db"], ["--version"]):
        reader, writer = os.pipe()
        os.close(reader)
        command = [sys.executable, "-m", "tasks.cli", *arguments]
        gone = subprocess.run(command, env=cli.env, cwd=cli.folder, stdout=writer, stderr=subprocess.PIPE, check=False)
        os.close(writer)
        assert (gone.returncode, gone.stderr) == (141, b""), arguments
    command = f"{sys.executable} -m tasks.cli jobs > /dev/full; echo $?"
    done = subprocess.run(["bash", "-c", command], env=cli.env, cwd=cli.folder, capture_output=True, text=True, check=True)
    assert done.stdout == "1\n"
    assert "No space left on device" in done.stderr
    assert "Traceback" not in done.stderr


def sheet(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


def test_jobs_are_a_sheet_that_no_api_writes_formulas_into(filled: CommandLine):
    filled.arrange(
        "f", employee=4, state="parked", outcome="hopeless", status=400, detail='=HYPERLINK("http://x")\n@x', group_key="g400"
    )
    done = filled.run("jobs", "--csv", "--limit", "2")
    first, second = sheet(done.stdout)
    assert list(first) == [
        *("id", "state", "route", "parameters", "needs", "covered", "due_at", "calls", "attempts", "crashes", "outcome"),
        *("status", "detail", "group", "created_at", "changed_at"),
    ]
    assert (first["parameters"], first["status"], first["detail"]) == ("employeeId=4", "400", '\'=HYPERLINK("http://x")\\n@x')
    assert (second["state"], second["due_at"] > "2026", second["detail"]) == ("scheduled", True, "")
    assert done.stderr == f"redrive: there may be more: --after {second['id']}\n"
    assert sheet(filled.run("jobs", "--csv", "--state", "completed").stdout) == []
    assert filled.run("jobs", "--csv", "--state", "completed").stdout.startswith('"id","state"'), (
        "the names are there without rows"
    )


def test_rejects_are_a_sheet(filled: CommandLine):
    filled.reject("g", b"=1", "not-json", "@SUM(1+1)*cmd|' /C calc'!A0")
    first, second = sheet(filled.run("rejects", "--csv").stdout)
    assert list(first) == ["id", "received_at", "source", "stream", "identity", "reject_reason", "reject_detail", "bytes"]
    assert (first["reject_detail"], first["bytes"]) == ("'@SUM(1+1)*cmd|' /C calc'!A0", "2")
    assert second["reject_detail"] == "the body is not UTF-8"


def test_a_sheet_is_of_a_list_and_no_json(filled: CommandLine):
    for command in (["jobs"], ["rejects"]):
        assert filled.error(*command, "--csv", code=2) == {
            "error": "--json and --csv are two formats",
            "hint": "choose one of them",
            "exit_code": 2,
        }
    done = filled.run("rejects", "5", "--csv", refused=True)
    assert done.returncode == 2
    assert done.stderr == "redrive: --csv is for the list\nwithout an id, or: redrive rejects 5 --json\n"
