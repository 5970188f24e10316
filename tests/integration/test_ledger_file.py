"""SQLite's file deleted or replaced under a process: told, and what is there now is opened; nothing goes into the old one."""

import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ledger_bench import SQLITE, A, B, Bench, a_letter, open_bench
from sqlalchemy import event, text
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
def test_a_deleted_file_is_told_and_then_that_its_place_is_empty(bench: Bench, file: Path, act: Callable[[Bench], None]):
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
def test_a_replaced_file_is_told_and_the_new_one_opened(bench: Bench, file: Path, backup: Path, act: Callable[[Bench], None]):
    bench.put(a_letter(A), a_letter(B))
    remove(file)
    backup.rename(file)

    with pytest.raises(LedgerUnavailable, match=f"{file} was replaced by another while this process had it open"):
        act(bench)
    assert count(bench.ledger) == 1  # as the backup has it
    write(bench)
    assert bench.sums() == {"accepted": 2, "pending": 2}


def test_only_the_main_file_deleted_is_told_as_well_and_the_rest_of_it_revives_nothing(bench: Bench, file: Path):
    file.unlink()

    with pytest.raises(LedgerUnavailable, match="was deleted"):
        write(bench)
    with pytest.raises(LedgerOutdated):
        write(bench)


def test_an_old_schema_in_the_new_file_is_told(bench: Bench, file: Path, backup: Path):
    with sqlite3.connect(backup) as old:
        old.execute("ALTER TABLE dead_letters DROP COLUMN stream")
    old.close()
    remove(file)
    backup.rename(file)

    with pytest.raises(LedgerUnavailable, match="was replaced"):
        write(bench)
    with pytest.raises(LedgerOutdated, match="no column named stream"):
        write(bench)


def is_sound(file: Path) -> bool:
    """Tell what SQLite finds in the file alone: nothing that lies beside it."""
    alone = shutil.copy(file, file.with_suffix(".alone"))
    with sqlite3.connect(alone) as connection:
        said = connection.execute("PRAGMA integrity_check").fetchall()
        letters = connection.execute("SELECT count(*) FROM dead_letters").fetchall()
    connection.close()
    return said == [("ok",)] and letters == [(1,)]


@pytest.mark.parametrize("act", [write, read])
def test_a_file_is_not_opened_while_the_log_of_the_one_before_lies_beside_it(
    bench: Bench, file: Path, backup: Path, act: Callable[[Bench], None]
):
    """SQLite would write what is in it over the new file."""
    bench.put(*[a_letter(A) for _ in range(100)])
    backup.replace(file)

    with pytest.raises(LedgerUnavailable, match="was replaced"):
        act(bench)
    for _ in range(2):
        with pytest.raises(LedgerUnavailable, match=f"{file} is not the one that the ledger.db-wal and -shm beside it") as caught:
            act(bench)
        assert caught.value.hint == "stop every process, remove that -wal and -shm, and start again"
    assert is_sound(file)

    for end in ("-wal", "-shm"):
        file.with_name(file.name + end).unlink()
    assert count(bench.ledger) == 1
    write(bench)
    assert bench.sums() == {"accepted": 2, "pending": 2}


@pytest.mark.parametrize("end", ["-wal", "-shm"])
def test_either_of_them_is_enough(bench: Bench, file: Path, backup: Path, end: str):
    backup.replace(file)
    file.with_name(file.name + end).unlink()

    for told in ("was replaced", "is not the one that"):
        with pytest.raises(LedgerUnavailable, match=told):
            write(bench)
    assert is_sound(file)


@pytest.mark.parametrize("still", ["running", "stopped"])
def test_a_process_that_starts_then_refuses_as_well(bench: Bench, file: Path, backup: Path, still: str):
    """Whether or not those that wrote the log are there, and before any of them has noticed."""
    bench.put(*[a_letter(A) for _ in range(100)])
    backup.replace(file)
    if still == "stopped":
        bench.close()
        assert file.with_name("ledger.db-wal").exists()
    other = bench.connect()

    with pytest.raises(LedgerUnavailable, match="is not the one that"):
        count(other)
    other.close()
    assert is_sound(file)


def test_a_copy_that_comes_with_its_own_log_is_opened(bench: Bench, file: Path, tmp_path: Path):
    ends = ("", "-wal", "-shm")
    for end in ends:
        shutil.copy(f"{file}{end}", tmp_path / f"copy{end}")
    for end in ends:
        (tmp_path / f"copy{end}").replace(f"{file}{end}")

    with pytest.raises(LedgerUnavailable, match="was replaced"):
        read(bench)
    write(bench)
    assert bench.sums() == {"accepted": 2, "pending": 2}


def test_a_damaged_file_in_its_place_is_told_and_only_a_new_one_is_looked_through(bench: Bench, file: Path, backup: Path):
    whole = backup.read_bytes()
    size = int.from_bytes(whole[16:18], "big")  # the size of a page: the file format, section 1.3
    remove(file)
    file.write_bytes(whole[: -size * 3] + b"\x55" * size * 3)

    with pytest.raises(LedgerUnavailable, match="was replaced"):
        read(bench)
    for _ in range(2):
        with pytest.raises(LedgerUnavailable, match=f"{file} is damaged: ") as caught:
            read(bench)
        assert "restore a backup" in caught.value.hint

    remove(file)
    backup.rename(file)
    said: list[str] = []
    event.listen(bench.ledger.engine, "connect", lambda connection, _: connection.set_trace_callback(said.append), insert=True)
    assert count(bench.ledger) == 1
    assert said.count("PRAGMA quick_check(1)") == 1
    bench.ledger.close()
    assert count(bench.ledger) == 1
    assert said.count("PRAGMA quick_check(1)") == 1


@pytest.mark.parametrize("note", [None, "", "what else", "1:2 3:4 5:6"])
def test_without_a_note_of_what_was_opened_all_works_as_well(bench: Bench, file: Path, note: str | None):
    bench.ledger.close()
    file.with_name("ledger.db-files").unlink()
    if note is not None:
        file.with_name("ledger.db-files").write_text(note)

    write(bench)
    assert bench.sums() == {"accepted": 2, "pending": 2}


def test_it_is_told_once_however_many_connections_there_were(bench: Bench, file: Path, backup: Path):
    with bench.ledger.begin(read_only=True), bench.ledger.begin(read_only=True), bench.ledger.begin():
        pass  # three connections, in the pool from now on
    remove(file)
    backup.rename(file)

    with pytest.raises(LedgerUnavailable, match="was replaced"):
        read(bench)
    for _ in range(3):
        with bench.ledger.begin(read_only=True), bench.ledger.begin(read_only=True), bench.ledger.begin():
            pass


def test_a_commit_into_a_file_that_was_deleted_meanwhile_is_no_commit(bench: Bench, file: Path):
    """A source would be acknowledged after it."""

    def work(tx: Any) -> None:
        tx.connection.execute(text("UPDATE jobs SET due_at = 0"))
        remove(file)

    with pytest.raises(LedgerUnavailable, match="was deleted"):
        bench.ledger.transact(work)


def test_other_threads_find_out_by_themselves(bench: Bench, file: Path, backup: Path):
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


def test_what_comes_back_to_its_place_was_never_gone(bench: Bench, file: Path):
    file.rename(file.with_suffix(".away"))
    file.with_suffix(".away").rename(file)

    write(bench)
    assert bench.sums() == {"accepted": 2, "pending": 2}


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "sqlite:///file:{folder}/u.db?uri=true"])
def test_where_redrive_does_not_know_the_file_it_looks_for_none(url: str, tmp_path: Path):
    ledger = Ledger(url.format(folder=tmp_path))
    with ledger.begin() as tx:
        assert "redrive_file" not in tx.connection.info
        assert tx.connection.scalar(text("SELECT 1")) == 1
    ledger.close()
