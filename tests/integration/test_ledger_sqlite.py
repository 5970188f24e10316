"""SQLite's file is deleted or replaced under a process: it notices, writes nothing into the old file, and opens the new one."""

import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ledger_bench import SQLITE, A, B, Bench, a_letter, open_bench
from sqlalchemy import text
from waiting import TEST_TIMEOUT

from tasks.dlq.errors import LedgerOutdated, LedgerUnavailable
from tasks.dlq.ledger import Ledger, migrations


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """Hold one letter."""
    for bench in open_bench(SQLITE, tmp_path):
        bench.put(a_letter(A))
        yield bench


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "ledger.db"


@pytest.fixture
def backup(bench: Bench, tmp_path: Path) -> Path:
    """A backup with that one letter."""
    with sqlite3.connect(tmp_path / "backup.db") as copy, sqlite3.connect(bench.url.removeprefix("sqlite:///")) as live:
        live.backup(copy)
    copy.close()
    live.close()
    return tmp_path / "backup.db"


def remove(file: Path) -> None:
    for each in file.parent.glob("ledger.db*"):
        each.unlink()


def count(ledger: Ledger) -> int:
    with ledger.begin(read_only=True) as tx:
        return int(tx.connection.scalar(text("SELECT count(*) FROM dead_letters")) or 0)


def write(bench: Bench) -> None:
    bench.put(a_letter(B))


def read(bench: Bench) -> None:
    count(bench.ledger)


@pytest.mark.parametrize("act", [write, read])
def test_a_deleted_file_is_noticed(bench: Bench, file: Path, act: Callable[[Bench], None]):
    remove(file)

    with pytest.raises(LedgerUnavailable, match=f"{file} was deleted while this process had it open") as caught:
        act(bench)
    assert "stop every process" in caught.value.hint
    assert not file.exists()
    with pytest.raises(LedgerOutdated, match="is empty or not up to date: no such table") as told:
        act(bench)
    assert told.value.hint.startswith("if it held jobs before, first see: Restore, ")
    assert told.value.hint.endswith("; else run: redrive db upgrade")

    migrations.upgrade(bench.ledger)
    bench.put(a_letter(A), a_letter(B))
    assert bench.sums() == {"accepted": 2, "pending": 2}


@pytest.mark.parametrize("act", [write, read])
def test_a_replaced_file_is_noticed_and_the_new_one_opened(bench: Bench, file: Path, backup: Path, act: Callable[[Bench], None]):
    bench.put(a_letter(A), a_letter(B))
    remove(file)
    backup.rename(file)

    with pytest.raises(LedgerUnavailable, match=f"{file} was replaced by another while this process had it open"):
        act(bench)
    assert count(bench.ledger) == 1  # as the backup has it
    write(bench)
    assert bench.sums() == {"accepted": 2, "pending": 2}


def test_the_log_of_a_deleted_file_is_not_used(bench: Bench, file: Path):
    file.unlink()

    with pytest.raises(LedgerUnavailable, match="was deleted"):
        write(bench)
    with pytest.raises(LedgerOutdated):
        write(bench)


def test_an_old_schema_in_a_new_file_is_noticed(bench: Bench, file: Path, backup: Path):
    with sqlite3.connect(backup) as old:
        old.execute("ALTER TABLE dead_letters DROP COLUMN stream")
    old.close()
    remove(file)
    backup.rename(file)

    with pytest.raises(LedgerUnavailable, match="was replaced"):
        write(bench)
    with pytest.raises(LedgerOutdated, match="no column named stream"):
        write(bench)


def test_a_replaced_file_closes_all_connections_at_once(bench: Bench, file: Path, backup: Path):
    with bench.ledger.begin(read_only=True), bench.ledger.begin(read_only=True), bench.ledger.begin():
        pass  # three connections, in the pool from now on
    remove(file)
    backup.rename(file)

    with pytest.raises(LedgerUnavailable, match="was replaced"):
        read(bench)
    for _ in range(3):
        with bench.ledger.begin(read_only=True), bench.ledger.begin(read_only=True), bench.ledger.begin():
            pass


def test_a_commit_into_a_deleted_file_fails(bench: Bench, file: Path):
    """A source would be acknowledged after it."""

    def work(tx: Any) -> None:
        tx.connection.execute(text("UPDATE jobs SET due_at = 0"))
        remove(file)

    with pytest.raises(LedgerUnavailable, match="was deleted"):
        bench.ledger.transact(work)


def test_each_thread_notices_a_replaced_file(bench: Bench, file: Path, backup: Path):
    inside, go_on, told = threading.Event(), threading.Event(), []

    def other() -> None:
        try:
            with bench.ledger.begin(read_only=True):
                inside.set()
                assert go_on.wait(TEST_TIMEOUT)
        except LedgerUnavailable as error:
            told.append(error.message)

    thread = threading.Thread(target=other)
    thread.start()
    assert inside.wait(TEST_TIMEOUT)
    remove(file)
    shutil.copy(backup, file)
    write(bench)  # by a new connection
    go_on.set()
    thread.join(TEST_TIMEOUT)

    assert len(told) == 1
    assert count(bench.ledger) == 2


def test_a_file_that_comes_back_is_the_same(bench: Bench, file: Path):
    file.rename(file.with_suffix(".away"))
    file.with_suffix(".away").rename(file)

    write(bench)
    assert bench.sums() == {"accepted": 2, "pending": 2}


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "sqlite:///file:{folder}/u.db?uri=true"])
def test_a_ledger_in_memory_has_no_file(url: str, tmp_path: Path):
    ledger = Ledger(url.format(folder=tmp_path))
    with ledger.begin() as tx:
        assert "redrive_file" not in tx.connection.info
        assert tx.connection.scalar(text("SELECT 1")) == 1
    ledger.close()
