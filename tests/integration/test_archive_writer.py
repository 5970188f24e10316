"""A whole ledger into a file and into another ledger: identical, of one moment, all or nothing, and safe for what was at work."""

from __future__ import annotations

import json
import random
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from ledger_bench import POSTGRESQL, SQLITE, URLS, A, B, C, a_letter
from ledger_copies import HOUR, Fresh, exported, fresh_ledgers, history, import_into, rows_of
from ledger_model import ACTS, DRAINS, LIMITS, LedgerMachine, in_memory
from sqlalchemy import inspect

from tasks.dlq.archive import file_format
from tasks.dlq.archive.writer import read_header, write_rows
from tasks.dlq.ledger import Ledger
from tasks.dlq.ledger.pruning import prune_jobs, prune_letters

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


EITHER_WAY = [(SQLITE, POSTGRESQL), (POSTGRESQL, SQLITE), (SQLITE, SQLITE), (POSTGRESQL, POSTGRESQL)]


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Fresh]:
    with fresh_ledgers(tmp_path) as made:
        yield made


# --- the same rows, wherever they go -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("one", "other"), EITHER_WAY)
def test_an_import_has_the_rows_that_were_exported(one: str, other: str, fresh: Fresh):
    bench = fresh(one)
    history(bench)
    file = exported(bench.ledger)

    copy = fresh(other)
    copy.clock.now = bench.clock.now
    import_into(copy.ledger, file)

    assert rows_of(exported(copy.ledger)) == rows_of(file)
    assert copy.audit().as_dict() == bench.audit().as_dict()
    assert copy.audit().balanced
    assert copy.rows("dead_letters") == bench.rows("dead_letters")


@pytest.mark.parametrize("kind", URLS)
def test_every_table_is_exported_or_listed_as_omitted(kind: str, fresh: Fresh):
    bench = fresh(kind)
    history(bench)
    rows = [json.loads(line) for line in exported(bench.ledger).splitlines()][-1]["rows"]

    tables = set(inspect(bench.ledger.engine).get_table_names()) - {"alembic_version"}
    assert tables == set(rows) | set(file_format.OMITTED_TABLES)
    assert not set(rows) & set(file_format.OMITTED_TABLES)
    assert all(rows.values()), "a table is empty: let the history fill it, or the tests of an export say nothing of it"
    assert set(file_format.OMITTED_TABLES) == {"processes"}, "whoever leaves a table behind says so here, too"


@pytest.mark.parametrize("seed", range(12))
def test_work_goes_on_in_the_imported_ledger(seed: int, fresh: Fresh):
    """The model's workers, sources and people go on in the copy as if nothing was: its promises hold there to the end."""
    choose = random.Random(seed).choice
    for ledger in in_memory():
        walk = type("LedgerMachine", (LedgerMachine,), {"ledger": ledger})()
        walk.begin(limit=choose(LIMITS), drain=choose(DRAINS))
        act_at_random(walk, choose)
        file = exported(ledger)
        between, copy = fresh(POSTGRESQL), fresh(SQLITE)
        import_into(_by_its_clock(between.ledger, ledger), file)
        assert rows_of(exported(between.ledger)) == rows_of(file)
        import_into(_by_its_clock(copy.ledger, ledger), exported(between.ledger))
        assert rows_of(exported(copy.ledger)) == rows_of(file)

        walk.ledger = walk.recovery._ledger = walk.sweeps._ledger = copy.ledger
        walk.checked = -1
        walk.guarantees_hold()
        act_at_random(walk, choose)
        walk.teardown()


def act_at_random(walk: Any, choose: Callable[[Any], Any]) -> None:
    acts = [name for name, (weight, _) in ACTS.items() for _ in range(weight)]
    for _ in range(60):
        name = choose(acts)
        getattr(walk, name)(**{what: choose(choices) for what, choices in ACTS[name][1].items()})
        walk.guarantees_hold()


def _by_its_clock(ledger: Ledger, other: Ledger) -> Ledger:
    ledger.clock = other.clock
    return ledger


# --- one moment --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", URLS)
def test_an_export_sees_one_moment_and_blocks_no_writer(kind: str, fresh: Fresh):
    bench = fresh(kind)
    for number in range(30):
        bench.put(a_letter(A, B, identity=f"before-{number}"), delay=0.0)
    before = rows_of(exported(bench.ledger))
    others = bench.connect()

    def write(line: bytes) -> None:
        """Work while the letters are written: what comes after them in the file must not know."""
        if b'"table":"dead_letters"' in line:
            bench.put(a_letter(A, C), delay=0.0)
            bench.call()

    during = exported(others, write)
    others.close()

    assert len(bench.rows("dead_letters")) == 60, "writers went on"
    assert rows_of(during)[1:] == before[1:]
    assert rows_of(exported(bench.ledger)) != before


@pytest.mark.parametrize("kind", URLS)
def test_memory_does_not_grow_with_the_ledger(kind: str, fresh: Fresh):
    bench, mebibyte = fresh(kind), 1 << 20
    for number in range(120):
        bench.put(a_letter(A, identity=str(number), body=b"x" * mebibyte))
    before, most = memory(), 0

    def look(_line: bytes) -> None:
        nonlocal most
        most = max(most, memory())

    with bench.ledger.begin(read_only=True) as tx:
        write_rows(tx, read_header(tx, revision="head", redrive="0.1.0"), look, lambda _: None).end()
    assert most - before < 60 * mebibyte


def memory() -> int:
    """Return the bytes of this process that are in memory, those of the database's driver among them."""
    return int(psutil.Process().memory_info().rss)


# --- ids ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("one", "other"), EITHER_WAY)
def test_the_id_of_a_deleted_row_is_not_given_out_again(one: str, other: str, fresh: Fresh):
    bench = fresh(one)
    bench.put_due(A)
    last = bench.put_due(B)
    bench.call()
    bench.call()
    bench.clock.advance(HOUR)
    bench.do(prune_letters, before=bench.clock.now)
    bench.do(prune_jobs, before=bench.clock.now)
    assert not bench.rows("jobs")

    copy = fresh(other)
    import_into(copy.ledger, exported(bench.ledger))

    assert copy.put_due(C) > last
    assert copy.rows("dead_letters")[0]["id"] > 2


def test_the_role_of_the_processes_may_export(fresh: Fresh):
    """With the grants of docs/howto/postgresql.md: it may use the sequences, not read them."""
    bench = fresh(POSTGRESQL)
    history(bench)
    if not bench.url.startswith("postgresql://postgres:"):
        pytest.skip("PostgreSQL: REDRIVE_TEST_POSTGRESQL is a server on which this test makes no roles")
    database = bench.url.rpartition("/")[2]
    bench.execute("DROP ROLE IF EXISTS redrive")
    bench.execute("CREATE ROLE redrive LOGIN PASSWORD 'only-here'")
    bench.execute("GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO redrive")
    bench.execute("GRANT USAGE ON ALL SEQUENCES IN SCHEMA public TO redrive")
    port = bench.ledger.engine.url.port
    theirs = Ledger(f"postgresql://redrive:only-here@127.0.0.1:{port}/{database}", clock=bench.clock)

    assert rows_of(exported(theirs)) == rows_of(exported(bench.ledger))

    theirs.close()
    bench.execute("DROP OWNED BY redrive")
    bench.execute("DROP ROLE redrive")
