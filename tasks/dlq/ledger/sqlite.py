"""SQLite's part of the ledger's connections: a commit is on disk, and it is in the file that other processes open.

SQLite goes on writing into a file that was deleted or replaced. Then a source would be acknowledged although the dead letter is
in no ledger. So each transaction looks at its start and at its end whether the path still leads to the file that was opened.
"""

from __future__ import annotations

import os
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any

from sqlalchemy import create_engine, event

from tasks.dlq.calls.limits import LEDGER_WAIT
from tasks.dlq.errors import LedgerUnavailable
from tasks.dlq.shortage import HINT, missing_resource

if TYPE_CHECKING:
    from sqlalchemy import URL, Connection, Engine

#: Seconds that a transaction waits for another writer; a writer holds the lock for milliseconds.
BUSY_TIMEOUT = LEDGER_WAIT
MAKE_ROOM = "make room on its disk: work continues by itself"
#: Bytes by which the disk must let a file grow: a batch of dead letters, and the pages of their indexes.
_ROOM = 1 << 18


def sqlite_engine(url: URL) -> Engine:
    """Return the engine of a ledger on SQLite.

    Raises:
        OSError: The directory cannot be created.
    """
    path = _path(url)
    if path:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(url, connect_args={"timeout": BUSY_TIMEOUT, "check_same_thread": False})
    event.listen(engine, "connect", _prepare)
    if path:
        event.listen(engine, "connect", lambda _, record: record.info.update(redrive_file=(path, _identity(path))))
    event.listen(engine, "begin", _begin)
    return engine


def ensure_same_file(connection: Connection) -> None:
    """Raise LedgerUnavailable, and close all connections, if the path no longer leads to the file that was opened."""
    path, opened = connection.info.get("redrive_file", (None, None))
    if path is None:
        return
    found = _identity(path)
    if found and found == opened:
        return
    connection.invalidate()
    connection.engine.dispose()
    raise LedgerUnavailable(
        f"the ledger's file {path} {'was replaced by another' if found else 'was deleted'} while this process had it open",
        hint="the next try opens the file that is there now; before a restore stop every process and remove -wal and -shm",
    )


def check_disk_space(url: URL) -> None:
    """Raise LedgerUnavailable if the disk is full. A small commit may still fit into the log, and would not show it."""
    if (path := _path(url)) is None:
        return
    try:
        with TemporaryFile(dir=Path(path).parent) as probe:
            os.posix_fallocate(probe.fileno(), 0, _ROOM)
    except OSError as error:
        if missing := missing_resource():
            raise LedgerUnavailable(f"nothing can be written beside the ledger's file {path}: {missing}", hint=HINT) from error
        message = f"the disk of the ledger's file {path} has no room for {_ROOM >> 10} KiB: {error.strerror}"
        raise LedgerUnavailable(message, hint=MAKE_ROOM) from error


def is_full(url: URL) -> bool:
    """Tell whether the disk is full. SQLite reports an I/O error if its log or index cannot grow."""
    if (path := _path(url)) is None:
        return False
    try:
        disk = os.statvfs(Path(path).parent)
    except OSError:
        return False
    return disk.f_bavail * disk.f_frsize < _ROOM


def _path(url: URL) -> str | None:
    """Return the path of the file; None in memory, and for SQLite's own URLs (`file:…`)."""
    if not url.database or url.database == ":memory:" or url.database.startswith("file:"):
        return None
    return str(Path(url.database).absolute())


def _identity(path: str) -> tuple[int, int] | None:
    """Return device and inode; None if there is no file."""
    try:
        found = os.stat(path)  # noqa: PTH116 - this runs twice in each transaction, and a Path doubles the time
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _prepare(dbapi_connection: Any, _record: object) -> None:
    dbapi_connection.isolation_level = None  # the driver must not begin transactions by itself
    cursor = dbapi_connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {int(BUSY_TIMEOUT * 1000)}")
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = FULL")  # a source is acknowledged after the commit, which must survive a power cut
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def _begin(connection: Connection) -> None:
    """Begin. A deferred transaction that reads first and writes later fails with SQLITE_BUSY, so writers begin IMMEDIATE."""
    read_only = connection.get_execution_options().get("redrive_read_only", False)
    connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")
