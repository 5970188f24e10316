"""What the command line says without looking at any file: help, versions and wrong usage."""

import json
import sys
from importlib.metadata import version
from types import SimpleNamespace
from typing import Never

import pytest
import typer

from tasks.cli import usage
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


WRONG = [
    (["jbos"], "there is no command 'jbos'. Did you mean 'jobs'?", "redrive"),
    (["jobs", "--nope"], "there is no option --nope; near it: --group, --route", "redrive jobs"),
    (["jobs", "-x"], "there is no option -x", "redrive jobs"),
    (["jobs", "--limit"], "--limit needs a value", "redrive jobs"),
    (["jobs", "--json=1"], "--json takes no value", "redrive jobs"),
    (["--version=1"], "--version takes no value", "redrive"),
    (["jobs", "--limit", "ten"], "--limit is 'ten'; it must be a whole number", "redrive jobs"),
    (["jobs", "--limit", "1.5"], "--limit is '1.5'; it must be a whole number", "redrive jobs"),
    (["jobs", "--limit", "0"], "--limit is '0'; it must be at least 1", "redrive jobs"),
    (["jobs", "--limit", "9" * 5000], f"--limit is '{'9' * 58}…; it must be a number of fewer digits", "redrive jobs"),
    (
        ["jobs", "--state", "lost"],
        "--state is 'lost'; it must be one of 'scheduled', 'executing', 'retryable', 'completed', 'parked', 'discarded'",
        "redrive jobs",
    ),
    (["jobs", "--after", str(2**63)], f"--after is '{2**63}'; it must be at most {2**63 - 1}", "redrive jobs"),
    (["show"], "ID is missing", "redrive show"),
    (["show", "x"], "ID is 'x'; it must be a whole number", "redrive show"),
    (["show", "1", "2"], "too many arguments: 2", "redrive show"),
    (["show", str(2**63)], f"ID is '{2**63}'; it must be at most {2**63 - 1}", "redrive show"),
    (["send"], "ROUTE is missing", "redrive send"),
    (["send", "x", "--file"], "--file needs a value", "redrive send"),
    (["replay"], "ID is missing", "redrive replay"),
    (["replay", "1", "x"], "ID is 'x'; it must be a whole number", "redrive replay"),
    (["demo", "--messages", "-1"], "--messages is '-1'; it must be at least 1", "redrive demo"),
    (["demo", "--seed", "-1"], "--seed is '-1'; it must be at least 0", "redrive demo"),
    (["demo", "--messages", "0"], "--messages is '0'; it must be at least 1", "redrive demo"),
    (["db", "downgrade"], "there is no command 'downgrade'. Did you mean 'upgrade'?", "redrive db"),
]


@pytest.mark.parametrize(("arguments", "told", "command"), WRONG)
def test_wrong_usage_is_exit_code_2_and_says_what_and_where_to_look(
    capsys: pytest.CaptureFixture[str], arguments: list[str], told: str, command: str
):
    assert run(arguments) == 2
    assert tuple(capsys.readouterr()) == ("", f"redrive: {told}\nsee: {command} --help\n")


@pytest.mark.parametrize(("arguments", "told", "command"), WRONG)
def test_wrong_usage_is_an_object_for_machines(capsys: pytest.CaptureFixture[str], arguments: list[str], told: str, command: str):
    assert run(["--json", *arguments] if arguments[-1].startswith("--") else [*arguments, "--json"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    error = json.loads(line)
    assert sorted(error) == ["error", "exit_code", "hint"]
    assert error["exit_code"] == 2
    if arguments[-1][0] != "-":
        assert (error["error"], error["hint"]) == (told, f"see: {command} --help")


def test_what_is_told_otherwise_keeps_its_own_words():
    assert usage.told(typer.TyperException("Something new.")) == "Something new."


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
