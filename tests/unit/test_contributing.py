"""The worked examples of CONTRIBUTING.md run. Its alert is in tests/unit/test_alerts_kinds.py."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Annotated, Literal

import pytest
import typer
from contributing import run_example

from tasks.cli.app import run
from tasks.dlq.calls.route import Route
from tasks.dlq.errors import OutOfReach
from tasks.dlq.ledger import Ledger, migrations
from tasks.dlq.ledger.schema import routes
from tasks.dlq.parameters import Integer
from tasks.dlq.ports import Record
from tasks.dlq.services.intake import Intake
from tasks.doctor.findings import Finding
from tasks.settings import settings
from tasks.settings.mappings import KIND, MappingTable
from tasks.settings.values import Display
from tasks.sources import SourceKind

if TYPE_CHECKING:
    from collections.abc import Iterator


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


# --- the source ------------------------------------------------------------------------------------------------------

_NAMES = {
    "Annotated": Annotated,
    "Display": Display,
    "Finding": Finding,
    "KIND": KIND,
    "Literal": Literal,
    "MappingTable": MappingTable,
    "OutOfReach": OutOfReach,
    "Path": Path,
    "Record": Record,
    "SourceKind": SourceKind,
}
_ROUTE = Route(name="employees", url="http://company/{employeeId}", params={"employeeId": Integer(positive=True)})


class NoWakeups:
    """Sends nothing."""

    def send(self, job_id: int, *, delay: float) -> None:
        pass


def test_the_source_is_read_recorded_and_acknowledged(tmp_path: Path):
    (letters := tmp_path / "letters").mkdir()
    (letters / "1.json").write_text('{"employeeId": 1}')
    (letters / "2.json").write_text("not JSON")
    example = run_example("Add a source", _NAMES)
    example["DirectoryTable"].model_rebuild(_types_namespace=_NAMES)
    table = example["DirectoryTable"](kind="directory", path=letters, route="employees", map={"employeeId": "employeeId"})
    settings = SimpleNamespace(sources_of=lambda kind: {"letters": table} if kind is example["DirectoryTable"] else {})

    kind = example["DirectoryKind"]()
    spec = kind.specify(settings, "letters")
    assert [finding.detail for finding in kind.check(spec)] == ["2 files to be read"]
    with kind.sample(spec, 10) as records:
        assert [record.body for record in records] == [b'{"employeeId": 1}', b"not JSON"]
    with closing(Ledger(f"sqlite:///{tmp_path}/ledger.db")) as ledger:
        migrations.upgrade(ledger)
        intake = Intake(ledger, {"employees": _ROUTE}, NoWakeups())
        taken = intake.drain(kind.open(spec), table.reader({"employees": _ROUTE}), seconds=60)
    assert (taken.accepted, taken.rejected) == (2, 1)
    assert list(letters.iterdir()) == []
