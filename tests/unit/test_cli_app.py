"""What the command line says without looking at any file: help, versions and wrong usage."""

import json
import sys
from importlib.metadata import version
from types import SimpleNamespace
from typing import Never

import pytest

from tasks.cli.app import run

COMMANDS = ["demo", "up", "intake", "send", "audit", "stats", "jobs", "show", "rejects", "config"]
COMMANDS += ["replay", "discard", "pause", "resume", "db"]


@pytest.mark.parametrize("arguments", [[], ["--help"], ["-h"]])
def test_help_lists_every_command(capsys: pytest.CaptureFixture[str], arguments: list[str]):
    assert run(arguments) == 0
    out = capsys.readouterr().out
    assert [name for name in COMMANDS if f"│ {name} " not in out] == []
    assert "Exit codes: 0 ok, 1 failed, 2 usage, 3 partly, 4 not found, 5 out of reach." in out


@pytest.mark.parametrize("command", [*([name] for name in COMMANDS), ["db", "upgrade"]])
def test_every_command_has_help_within_80_columns(capsys: pytest.CaptureFixture[str], command: list[str]):
    assert run([*command, "--help"]) == 0
    out = capsys.readouterr().out
    assert f"Usage: redrive {' '.join(command)}" in out
    assert max(map(len, out.splitlines())) <= 80


def test_every_command_that_prints_data_takes_json(capsys: pytest.CaptureFixture[str]):
    for command in sorted({*COMMANDS, "db upgrade"} - {"up", "db"}):
        run([*command.split(), "--help"])
        assert "--json" in capsys.readouterr().out, command


def test_version(capsys: pytest.CaptureFixture[str]):
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"redrive {version('redrive')}\n"


#: Arguments, what the error names, and the command whose help it points to.
WRONG = [
    (["jbos"], "jobs", "redrive"),
    (["jobs", "--nope"], "--nope", "redrive jobs"),
    (["jobs", "-x"], "-x", "redrive jobs"),
    (["jobs", "--limit"], "--limit", "redrive"),
    (["jobs", "--json=1"], "--json", "redrive"),
    (["--version=1"], "--version", "redrive"),
    (["jobs", "--limit", "ten"], "--limit", "redrive jobs"),
    (["jobs", "--limit", "1.5"], "--limit", "redrive jobs"),
    (["jobs", "--limit", "0"], "greater than or equal to 1", "redrive jobs"),
    (["jobs", "--limit", "9" * 5000], "--limit", "redrive jobs"),
    (["jobs", "--state", "lost"], "'lost' is not one of 'scheduled', 'executing'", "redrive jobs"),
    (["jobs", "--after", str(2**63)], f"less than or equal to {2**63 - 1}", "redrive jobs"),
    (["show"], "Missing argument 'ID'", "redrive show"),
    (["show", "x"], "'ID'", "redrive show"),
    (["show", "1", "2"], "unexpected extra argument", "redrive show"),
    (["show", str(2**63)], f"less than or equal to {2**63 - 1}", "redrive show"),
    (["send"], "Missing argument 'ROUTE'", "redrive send"),
    (["send", "x", "--file"], "--file", "redrive"),
    (["replay"], "Missing argument 'ID'", "redrive replay"),
    (["replay", "1", "x"], "'ID'", "redrive replay"),
    (["demo", "--messages", "-1"], "--messages", "redrive demo"),
    (["demo", "--seed", "-1"], "--seed", "redrive demo"),
    (["db", "downgrade"], "upgrade", "redrive db"),
]


@pytest.mark.parametrize(("arguments", "named", "command"), WRONG)
def test_wrong_usage_is_exit_code_2_and_names_the_help(
    capsys: pytest.CaptureFixture[str], arguments: list[str], named: str, command: str
):
    assert run(arguments) == 2
    out, err = capsys.readouterr()
    error, hint = err.splitlines()
    assert out == ""
    assert error.startswith("redrive: ")
    assert named in error
    assert len(error) < 400
    assert hint == f"see: {command} --help"


@pytest.mark.parametrize(("arguments", "named", "command"), WRONG)
def test_wrong_usage_is_an_object_for_machines(
    capsys: pytest.CaptureFixture[str], arguments: list[str], named: str, command: str
):
    assert run(["--json", *arguments] if arguments[-1].startswith("--") else [*arguments, "--json"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    error = json.loads(line)
    assert sorted(error) == ["error", "exit_code", "hint"]
    assert error["exit_code"] == 2
    if arguments[-1][0] != "-":
        assert named in error["error"]
        assert error["hint"] == f"see: {command} --help"


def test_an_argument_that_is_no_text_is_refused(capsys: pytest.CaptureFixture[str]):
    assert run(["pause", "employees", "--reason", "caf\udce9"]) == 2
    assert capsys.readouterr().err.startswith("redrive: 'caf\\udce9' is not UTF-8\n")


def test_a_value_after_two_dashes_is_no_option(capsys: pytest.CaptureFixture[str]):
    run(["show", "--", "--json"])
    assert capsys.readouterr().err.startswith("redrive: ")


@pytest.mark.parametrize("command", ["demo", "up"])
def test_without_the_embedded_servers_it_says_what_to_install(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, command: str
):
    monkeypatch.setitem(sys.modules, "ministack", None)
    monkeypatch.setitem(sys.modules, f"tasks.devstack.{command}", None)
    assert run([command]) == 2
    assert capsys.readouterr().err == (
        "redrive: the embedded servers are missing: ministack\nrun: pip install 'redrive[devstack]'\n"
    )


def test_the_demos_exit_code_is_the_commands(monkeypatch: pytest.MonkeyPatch):
    asked: list[dict[str, object]] = []
    monkeypatch.setitem(sys.modules, "tasks.devstack.demo", SimpleNamespace(run=lambda **given: asked.append(given) or 1))
    assert run(["demo", "--messages", "7", "--seed", "3", "--json"]) == 1
    assert asked == [{"messages": 7, "seed": 3, "json_output": True}]


def test_up_is_told_whether_to_bring_the_sample(monkeypatch: pytest.MonkeyPatch):
    asked: list[dict[str, object]] = []
    monkeypatch.setitem(sys.modules, "tasks.devstack.up", SimpleNamespace(run=lambda **given: asked.append(given) or 0))
    assert [run(["up"]), run(["up", "--sample"])] == [0, 0]
    assert asked == [{"sample": False}, {"sample": True}]


def test_an_interrupt_is_130(monkeypatch: pytest.MonkeyPatch):
    def interrupted() -> Never:
        raise KeyboardInterrupt

    monkeypatch.setattr("tasks.settings.settings", interrupted)
    assert run(["config"]) == 130
