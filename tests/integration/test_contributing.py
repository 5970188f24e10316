"""The worked examples of CONTRIBUTING.md run. Its alert is in tests/unit/test_alerts_kinds.py."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
import typer
from command_line import command_line
from contributing import run_example

if TYPE_CHECKING:
    from pathlib import Path

    from command_line import CommandLine


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CommandLine:
    """A folder in which the route employees is paused, and a `redrive` with the command of the example."""
    folder = command_line(tmp_path)
    with folder.ledger():
        pass
    assert folder.run("pause", "employees", "--reason", "deploy").returncode == 0
    app = typer.Typer()
    app.command("paused")(run_example("Add a command")["paused"])
    app.command("audit")(lambda: None)  # with one command alone, Typer takes no name
    monkeypatch.setattr("tasks.cli.app.app", app)
    return folder


def test_the_command_prints_a_table(cli: CommandLine):
    done = cli.run("paused", refused=True)
    assert done.returncode == 0
    title, row = done.stdout.splitlines()
    assert title.split() == ["Route", "Paused", "by", "Reason"]
    assert (row.split()[0], row.split()[-1]) == ("employees", "deploy")


def test_the_command_prints_json(cli: CommandLine):
    done = cli.run("paused", "--json", refused=True)
    assert [json.loads(line)["route"] for line in done.stdout.splitlines()] == ["employees"]
