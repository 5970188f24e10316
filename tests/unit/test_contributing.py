"""The worked examples of CONTRIBUTING.md run. Its alert is in tests/unit/test_alerts_kinds.py."""

from __future__ import annotations

import json
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
import typer
from contributing import run_example

from tasks.cli.app import run
from tasks.dlq.ledger import Ledger, migrations
from tasks.dlq.ledger.schema import routes
from tasks.settings import settings

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def _paused_route(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A ledger in which the route employees is paused, and a `redrive` with the command of the example."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("REDRIVE_CONFIG", raising=False)
    monkeypatch.setenv("REDRIVE_LEDGER__URL", f"sqlite:///{tmp_path}/ledger.db")
    settings.cache_clear()
    with closing(Ledger(f"sqlite:///{tmp_path}/ledger.db")) as ledger:
        migrations.upgrade(ledger)
        with ledger.begin() as tx:
            tx.connection.execute(routes.insert().values(name="employees", paused_at=1, paused_by="ada", pause_reason="deploy"))
    app = typer.Typer()
    app.command("paused")(run_example("Add a command")["paused"])
    app.command("audit")(lambda: None)  # Typer drops the name of a single command
    monkeypatch.setattr("tasks.cli.app.app", app)
    yield
    settings.cache_clear()


@pytest.mark.usefixtures("_paused_route")
def test_the_command_prints_a_table(capsys: pytest.CaptureFixture[str]):
    assert run(["paused"]) == 0
    title, row = capsys.readouterr().out.splitlines()
    assert title.split() == ["Route", "Paused", "by", "Reason"]
    assert row.split() == ["employees", "ada", "deploy"]


@pytest.mark.usefixtures("_paused_route")
def test_the_command_prints_json(capsys: pytest.CaptureFixture[str]):
    assert run(["paused", "--json"]) == 0
    [route] = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert (route["route"], route["paused_by"]) == ("employees", "ada")
