"""A ledger that is missing, locked, damaged or old is told in plain words, with what to do; hot queries use their indexes."""

import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ledger_bench import SQLITE, URLS, A, B, Bench, a_letter, open_bench
from sqlalchemy import event, text
from waiting import TEST_TIMEOUT

from tasks.dlq.calls.outcome import Outcome
from tasks.dlq.errors import ConfigError, LedgerOutdated, LedgerUnavailable, OutOfReach
from tasks.dlq.job import State
from tasks.dlq.ledger import DatabaseClock, Ledger, queries, rescue, sqlite, wakeups
from tasks.dlq.ledger.claims import claim
from tasks.dlq.ledger.routes import lock_route


@pytest.fixture(params=URLS)
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    yield from open_bench(request.param, tmp_path)


@pytest.fixture
def sqlite_bench(tmp_path: Path) -> Iterator[Bench]:
    yield from open_bench(SQLITE, tmp_path)


def read(url: str) -> None:
    ledger = Ledger(url)
    try:
        with ledger.begin(read_only=True) as tx:
            queries.count_jobs(tx)
    finally:
        ledger.close()


# --- out of reach ----------------------------------------------------------------------------------------------------


def test_the_ledgers_folder_is_made(tmp_path: Path):
    with pytest.raises(LedgerOutdated):  # there is a database now, but nothing in it
        read(f"sqlite:///{tmp_path}/a/b/ledger.db")
    assert (tmp_path / "a/b/ledger.db").exists()


def test_a_directory_that_cannot_be_created(tmp_path: Path):
    (tmp_path / "file").touch()
    with pytest.raises(LedgerUnavailable, match="directory cannot be created") as caught:
        read(f"sqlite:///{tmp_path}/file/ledger.db")
    assert "ledger.url" in caught.value.hint


def test_a_folder_that_went_away(tmp_path: Path):
    ledger = Ledger(f"sqlite:///{tmp_path}/gone/ledger.db")
    (tmp_path / "gone").rmdir()
    with pytest.raises(LedgerUnavailable, match="unable to open database file"), ledger.begin():
        pass


def test_a_path_that_is_a_folder(tmp_path: Path):
    with pytest.raises(LedgerUnavailable):
        read(f"sqlite:///{tmp_path}")


def test_a_file_that_is_no_database(tmp_path: Path):
    (tmp_path / "ledger.db").write_bytes(b"this is a shopping list, not a database, and it is long enough " * 20)
    with pytest.raises(LedgerUnavailable, match="file is not a database") as caught:
        read(f"sqlite:///{tmp_path}/ledger.db")
    assert str(tmp_path) in caught.value.message
    assert caught.value.exit_code == 5


def test_an_empty_database_is_outdated_and_the_hint_is_the_command(tmp_path: Path):
    with pytest.raises(LedgerOutdated) as caught:
        read(f"sqlite:///{tmp_path}/ledger.db")
    assert caught.value.hint.endswith("; else run: redrive db upgrade")


def test_a_ledger_without_a_column_is_outdated(bench: Bench):
    bench.execute("ALTER TABLE jobs DROP COLUMN detail")
    with pytest.raises(LedgerOutdated):
        bench.rows("jobs")
    bench.execute("ALTER TABLE dead_letters DROP COLUMN stream")
    with pytest.raises(LedgerOutdated):
        bench.put(a_letter(A))


def test_a_ledger_that_stays_locked(sqlite_bench: Bench, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT", 0.05)
    other = sqlite_bench.connect()
    with sqlite_bench.ledger.begin(), pytest.raises(LedgerUnavailable, match="database is locked"):
        other.transact(lambda tx: claim(lock_route(tx, sqlite_bench.route), worker="w"))
    assert other.transact(lambda tx: claim(lock_route(tx, sqlite_bench.route), worker="w")) is None  # and goes on when it is free
    other.close()


def test_a_ledger_whose_disk_is_full_loses_nothing(sqlite_bench: Bench):
    sqlite_bench.put(a_letter(A))

    @event.listens_for(sqlite_bench.ledger.engine, "begin")
    def no_room(connection: Any) -> None:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")

    with pytest.raises(LedgerUnavailable, match="full"):
        sqlite_bench.put(a_letter(B, body=b"x" * 10**6))
    assert sqlite_bench.sums() == {"accepted": 1, "pending": 1}


def test_a_full_disk_for_which_sqlite_ended_the_transaction_itself_is_told_as_that(sqlite_bench: Bench):
    def work(tx: Any) -> None:
        with tx.connection.begin_nested():
            tx.connection.exec_driver_sql("ROLLBACK")  # as SQLite does when it cannot write what its cache does not hold
            tx.connection.exec_driver_sql("PRAGMA max_page_count = 1")
            tx.connection.exec_driver_sql("CREATE TABLE big AS SELECT randomblob(1000000)")

    with pytest.raises(LedgerUnavailable, match="disk is full") as caught:
        sqlite_bench.ledger.transact(work)
    assert type(caught.value) is LedgerUnavailable
    assert "make room on its disk" in caught.value.hint


def test_a_server_that_does_not_answer_is_told_without_its_password():
    with pytest.raises(LedgerUnavailable, match="does not answer") as caught:
        read("postgresql://redrive:s3cret@127.0.0.1:1/redrive")
    assert "s3cret" not in repr(caught.value) + caught.value.message + caught.value.hint


@pytest.mark.parametrize("url", ["", "ledger.db", "mysql://localhost/redrive", "sqlite//x", "postgresql://h:port/db"])
def test_a_url_where_no_ledger_can_be(url: str):
    with pytest.raises(ConfigError, match="ledger"):
        Ledger(url)


def test_a_url_that_is_refused_is_told_without_its_password():
    with pytest.raises(ConfigError) as caught:
        Ledger("mysql://redrive:s3cret@localhost/redrive")
    assert "s3cret" not in repr(caught.value) + caught.value.message


def test_an_error_of_redrives_own_passes_through_and_rolls_back(bench: Bench):
    def work(tx: Any) -> None:
        tx.connection.execute(text("UPDATE jobs SET state = 'parked'"))
        raise OutOfReach("the source does not answer")

    bench.put(a_letter(A))
    with pytest.raises(OutOfReach, match="the source"):
        bench.do(work)
    assert bench.state() is State.SCHEDULED


# --- transactions ----------------------------------------------------------------------------------------------------


def test_a_commit_is_on_disk_before_a_source_is_acknowledged(sqlite_bench: Bench):
    with sqlite_bench.ledger.begin() as tx:
        found = {name: tx.connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in ("synchronous", "journal_mode")}
    assert found == {"synchronous": 2, "journal_mode": "wal"}


def test_readers_and_a_writer_do_not_wait_for_each_other(sqlite_bench: Bench):
    other = sqlite_bench.connect()
    with sqlite_bench.ledger.begin(), other.begin(read_only=True) as tx:
        assert queries.count_jobs(tx) == {}
    with other.begin(read_only=True) as tx:
        queries.count_jobs(tx)
        sqlite_bench.put(a_letter(A))
        assert queries.count_jobs(tx) == {}  # its moment
    other.close()


def test_writers_wait_in_line_instead_of_failing(sqlite_bench: Bench):
    """Two transactions that read first and then write: both begin with the lock, so that neither stands on an old read."""
    other, order = sqlite_bench.connect(), []
    inside, go_on = threading.Event(), threading.Event()

    def first(tx: Any) -> None:
        queries.count_jobs(tx)
        inside.set()
        assert go_on.wait(TEST_TIMEOUT)
        tx.connection.execute(text("UPDATE routes SET fence = fence + 1"))
        order.append("first")

    thread = threading.Thread(target=lambda: sqlite_bench.ledger.transact(first))
    thread.start()
    assert inside.wait(TEST_TIMEOUT)
    threading.Timer(0.05, go_on.set).start()
    other.transact(lambda tx: order.append("second") or claim(lock_route(tx, sqlite_bench.route), worker="w"))
    thread.join(TEST_TIMEOUT)
    other.close()

    assert order == ["first", "second"]


def test_the_databases_clock_tells_milliseconds_since_the_epoch(bench: Bench):
    clock = DatabaseClock()
    with bench.ledger.begin() as tx:
        first = clock.read(tx.connection)
        tx.connection.execute(text("SELECT pg_sleep(0.02)" if not bench.sqlite else "SELECT 1"))
        second = clock.read(tx.connection)
    assert 1_700_000_000_000 < first <= second < 4_000_000_000_000
    assert bench.sqlite or second - first >= 20  # read afresh, not the transaction's start


# --- query plans -----------------------------------------------------------------------------------------------------


def plans(bench: Bench, work: Any) -> dict[str, list[str]]:
    """Run `work`; return how SQLite looks up each of its statements that reads or updates jobs."""
    seen: list[tuple[str, Any]] = []

    def note(_conn: object, _cursor: object, statement: str, parameters: Any, *_rest: object) -> None:
        seen.append((statement, parameters))

    event.listen(bench.ledger.engine, "before_cursor_execute", note)
    bench.do(work)
    event.remove(bench.ledger.engine, "before_cursor_execute", note)
    found = {}
    with sqlite3.connect(bench.url.removeprefix("sqlite:///")) as connection:
        for statement, parameters in seen:
            if "jobs" in statement and statement.startswith(("SELECT", "UPDATE")):
                found[statement] = [row[3] for row in connection.execute("EXPLAIN QUERY PLAN " + statement, parameters)]
    connection.close()
    return found


@pytest.fixture
def busy(sqlite_bench: Bench) -> Bench:
    """Hold jobs in every state, and statistics, so that SQLite's planner knows what it plans for."""
    for start in range(0, 300, 100):
        sqlite_bench.put(*[a_letter(f'{{"employeeId":"{n}"}}') for n in range(start, start + 100)], delay=0.0)
    for _ in range(50):
        sqlite_bench.call()
    for _ in range(10):
        sqlite_bench.call(Outcome.HOPELESS)
    with sqlite3.connect(sqlite_bench.url.removeprefix("sqlite:///")) as connection:
        connection.execute("ANALYZE")
    connection.close()
    return sqlite_bench


HOT = {
    "claim": lambda tx, bench: claim(lock_route(tx, bench.route), worker="w"),
    "rescue": lambda tx, bench: rescue.rescue(lock_route(tx, bench.route)),
    "promote": lambda tx, bench: wakeups.promote_due_jobs(lock_route(tx, bench.route)),
    "follow up": lambda tx, bench: wakeups.reserve_follow_up(lock_route(tx, bench.route)),
    "receive": lambda tx, bench: wakeups.receive_wakeup(lock_route(tx, bench.route), 7),
    "reserve": lambda tx, bench: wakeups.reserve_wakeups(lock_route(tx, bench.route), [7, 8, 9]),
}


@pytest.mark.parametrize("name", HOT)
def test_what_runs_for_every_call_stays_flat_because_it_uses_an_index(busy: Bench, name: str):
    found = plans(busy, lambda tx: HOT[name](tx, busy))

    assert found
    for statement, plan in found.items():
        assert not [step for step in plan if step.startswith("SCAN")], (statement, plan)
        sorts = [step for step in plan if "TEMP B-TREE" in step]
        assert not sorts or "jobs.id IN" in statement, (statement, plan)  # a handful of named jobs may be sorted


def test_the_claims_order_comes_from_its_index(busy: Bench):
    found = plans(busy, lambda tx: claim(lock_route(tx, busy.route), worker="w"))

    used = " ".join(step for plan in found.values() for step in plan)
    assert "ix_jobs_due" in used
    assert "ix_jobs_leases" in used
    assert "ix_jobs_resting" in used


def test_a_page_of_jobs_costs_the_same_wherever_it_is(busy: Bench):
    found = plans(busy, lambda tx: queries.list_jobs(tx, after=150, limit=10))

    assert list(found.values()) == [["SEARCH jobs USING INTEGER PRIMARY KEY (rowid<?)"]]
