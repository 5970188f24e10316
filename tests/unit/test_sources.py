"""The registry of kinds: a kind that is registered is opened, drained, sampled and checked like those of Redrive."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING, get_args

import pytest
from doubles.memory_source import MemorySource
from sqlalchemy import func, select

from tasks.dlq.errors import OutOfReach
from tasks.dlq.ledger.schema import dead_letters
from tasks.doctor.findings import Finding, State
from tasks.runtime import Runtime
from tasks.settings import Settings, assemble
from tasks.settings.mappings import KIND, MappingTable
from tasks.settings.sources import AnySource
from tasks.sources import SOURCE_KINDS, SourceKind, check_source, kinds_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ROUTE = {"url": "http://127.0.0.1:1/employees/{employeeId}", "params": {"employeeId": "positive-int"}}
MAPPED = {"route": "employees", "map": {"employeeId": "employeeId"}}


class NoWakeups:
    def send(self, job_id: int, *, delay: float) -> None:
        pass


class MemoryKind(SourceKind[str]):
    """A source in memory."""

    def __init__(self, source: MemorySource) -> None:
        self.source = source

    def specify(self, settings: Settings, name: str) -> str:  # noqa: ARG002
        return name

    def open(self, spec: str) -> MemorySource:  # noqa: ARG002
        return self.source

    def check(self, spec: str) -> Iterator[Finding]:
        self.source.receive(wait=0)
        yield Finding(name=f"source {spec}", detail="it answers")


@pytest.fixture
def source(monkeypatch: pytest.MonkeyPatch) -> MemorySource:
    source = MemorySource("memory")
    source.put(*(b'{"employeeId": %d}' % number for number in (1, 2, 3)))
    monkeypatch.setitem(SOURCE_KINDS, "memory", MemoryKind(source))
    return source


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    """A configuration with a source of the kind "memory"."""
    found = assemble({"state_dir": str(tmp_path), "routes": {"employees": ROUTE}}, {})
    return found.model_copy(update={"sources": {"memory": MappingTable(kind="memory", **MAPPED)}})


def test_a_registered_kind_is_drained_by_the_sweep(settings: Settings, source: MemorySource):
    with closing(Runtime(settings, NoWakeups())) as runtime:
        runtime.ensure_ledger()
        opened, reader = next(each for each in runtime.swept_sources if each[0].name == "memory")
        assert runtime.intake.drain(opened, reader, seconds=60).accepted == 3
        with runtime.ledger.begin(read_only=True) as tx:
            assert tx.connection.scalar(select(func.count()).select_from(dead_letters)) == 3
    assert source.left == 0


def test_a_registered_kind_is_checked(settings: Settings, source: MemorySource):
    assert [each.state for each in check_source(settings, "memory")] == [State.OK]
    source.go_down()
    assert [(each.name, each.state) for each in check_source(settings, "memory")] == [("source memory", State.WRONG)]


def test_a_sample_leaves_the_records_in_the_source(settings: Settings, source: MemorySource):
    kind = kinds_of(settings)["memory"]
    with kind.sample("memory", 2) as records:
        assert [record.body for record in records] == [b'{"employeeId": 1}', b'{"employeeId": 2}']
    assert [record.body for record in source.receive(wait=0)] == [b'{"employeeId": %d}' % number for number in (1, 2, 3)]
    assert kind.read_lags("memory") is None


def test_a_sample_of_a_source_that_does_not_answer_says_so(settings: Settings, source: MemorySource):
    source.go_down()
    with pytest.raises(OutOfReach), kinds_of(settings)["memory"].sample("memory", 1) as records:
        next(records)


def test_the_settings_know_the_kinds_of_the_registry():
    union, _ = get_args(AnySource)
    kinds = [get_args(table.model_fields["kind"].annotation)[0] for table in get_args(union)]
    assert kinds == list(SOURCE_KINDS)
    assert KIND.allowed == " or ".join(f'"{kind}"' for kind in kinds)


def test_a_sweep_drains_the_sweepable_kinds_only(tmp_path: Path):
    sources = {
        "queue": {"kind": "sqs", "queue": "q", **MAPPED},
        "topics": {"kind": "kafka", "bootstrap": "127.0.0.1:1", "topics": ["t"], **MAPPED},
    }
    settings = assemble({"state_dir": str(tmp_path), "routes": {"employees": ROUTE}, "sources": sources}, {})
    with closing(Runtime(settings, NoWakeups())) as runtime:
        swept = {source.name for source, _ in runtime.swept_sources}
        assert swept == {"queue", "celery"}
        assert {source.name for source, _ in runtime.sources} == swept | {"topics"}
