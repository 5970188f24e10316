"""The queries over failure groups."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from alerts_bench import AlertBench, open_bench
from ledger_bench import SQLITE, URLS
from sqlalchemy import text

from tasks.dlq.ledger import groups


@pytest.fixture(params=URLS)
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[AlertBench]:
    yield from open_bench(request.param, tmp_path)


def first_jobs(bench: AlertBench, *always: str) -> list[int]:
    with bench.ledger.begin(read_only=True) as tx:
        return sorted(job.id for job in groups.first_parked_jobs(tx, always=always))


def test_each_group_has_its_first_parked_job(bench: AlertBench):
    later = bench.add_job(group="a", changed_at=bench.clock.now + 1)
    first = bench.add_job(group="a")
    other = bench.add_job(group="b")
    bench.add_job(group="c", state="retryable")
    bench.add_job(group="b", state="completed", changed_at=bench.clock.now - 1)
    assert first_jobs(bench) == [first, other]
    with bench.ledger.begin(read_only=True) as tx:
        assert [groups.count_parked(tx, key) for key in ("a", "b", "c", "d")] == [2, 1, 0, 0]

    bench.change_jobs("completed", "b")
    assert first_jobs(bench) == [first]
    assert later not in first_jobs(bench)


def test_a_group_beyond_the_bound_is_found_by_its_key(bench: AlertBench, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(groups, "MAX_GROUPS", 2)
    first, second, third = (bench.add_job(group=key) for key in ("a", "b", "c"))
    assert first_jobs(bench) == [first, second]
    assert first_jobs(bench, "c", "a", "gone") == [first, second, third]


@pytest.mark.parametrize("bench", [SQLITE], indirect=True)
def test_the_groups_query_does_not_read_all_jobs(bench: AlertBench):
    """The query must not grow with the ledger. SQLite names the index that it uses."""
    with bench.ledger.begin(read_only=True) as tx:
        query = str(groups._walk().compile(tx.connection, compile_kwargs={"literal_binds": True}))
        plan = [row.detail for row in tx.connection.execute(text("EXPLAIN QUERY PLAN " + query))]

    assert not [step for step in plan if step.startswith("SCAN jobs")], plan
    assert [step for step in plan if "USING COVERING INDEX ix_jobs_group (group_key>?)" in step], plan
    assert [step for step in plan if "USING COVERING INDEX ix_jobs_group (group_key=? AND state=?)" in step], plan
