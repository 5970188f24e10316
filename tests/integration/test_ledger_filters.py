"""What a person or a script puts into a filter is a value for both databases, and never SQL."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from ledger_bench import URLS, A, B, Bench, a_letter, open_bench
from sqlalchemy import select

from tasks.dlq.ledger import operations
from tasks.dlq.ledger.queries import list_jobs, list_rejected
from tasks.dlq.ledger.schema import audit_log

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WEAPONS = [
    "employees' OR '1'='1",
    "' OR 1=1 --",
    "'; DROP TABLE jobs; --",
    "') UNION SELECT * FROM dead_letters --",
    "\\'; DELETE FROM needs; --",
    "%",
    "_mployees",
    ":route",
    "%(route)s",
    "?",
    "$1",
]


@pytest.fixture(params=URLS)
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    yield from open_bench(request.param, tmp_path)


@pytest.mark.parametrize("weapon", WEAPONS)
def test_a_filter_is_a_value(bench: Bench, weapon: str):
    bench.put(a_letter(A), a_letter(B), a_letter())
    before = {table: bench.rows(table) for table in ("jobs", "needs", "dead_letters")}
    assert len(bench.do(list_jobs, route="employees")) == 2
    assert bench.do(list_jobs, route=weapon) == []
    assert bench.do(list_jobs, group=weapon) == []
    assert bench.do(list_jobs, states=[weapon, "parked"]) == []
    assert bench.do(list_rejected, reason=weapon) == []
    bench.do(operations.log, actor=weapon, action="replay", subject=weapon, reason=weapon)
    assert bench.do(lambda tx: tx.connection.execute(select(audit_log.c.actor, audit_log.c.reason)).all()) == [(weapon, weapon)]
    assert {table: bench.rows(table) for table in before} == before
