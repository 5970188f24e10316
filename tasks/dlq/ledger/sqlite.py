"""SQLite's part of the ledger's connections: a commit means "on disk", and the file is the one that the write-ahead log is of.

SQLite finds a database's log (`-wal`) and the log's index (`-shm`) by their names alone. Beside a file that was put in the place
of another one it would write what is left in the other one's log over it. So a small file beside the database (`-files`) notes
which three files were opened together, as device and inode: a database that is another one is not opened while the log or the
index is still that of the noted one.
"""

from __future__ import annotations

import os
import threading
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import create_engine, event

from tasks.dlq.calls.limits import LEDGER_WAIT
from tasks.dlq.errors import LedgerUnavailable
from tasks.dlq.shortage import HINT, missing_resource
from tasks.dlq.text import shorten

if TYPE_CHECKING:
    from sqlalchemy import URL, Connection, Engine

#: Seconds that a SQLite transaction waits for another writer; a writer holds the lock for milliseconds.
BUSY_TIMEOUT = LEDGER_WAIT
_GONE = ""
#: Bytes that a file has to be able to grow by: a batch of letters, and the pages of their indexes.
_ROOM = 1 << 18


class _Files(NamedTuple):
    """The database, its log and the log's index, each as `device:inode`; `_GONE` where there is none."""

    database: str = _GONE
    wal: str = _GONE
    shm: str = _GONE


def sqlite_engine(url: URL) -> Engine:
    """Return the engine of a ledger on SQLite.

    Raises:
        OSError: the folder cannot be made.
    """
    path = _path(url)
    if path:
        Path(path).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(url, connect_args={"timeout": BUSY_TIMEOUT, "check_same_thread": False})
    if path:
        event.listen(engine, "do_connect", lambda *_: _refuse_anothers_log(path))
        event.listen(engine, "connect", lambda _, record: record.info.update(redrive_file=(path, _identity(path))))
    event.listen(engine, "connect", _prepare)
    if path:
        event.listen(engine, "connect", _note)
    event.listen(engine, "begin", _begin)
    return engine


def stay(connection: Connection) -> None:
    """Raise LedgerUnavailable, and forget all connections, when the file is not the one that was opened any more."""
    path, opened = connection.info.get("redrive_file", (None, _GONE))
    if path is None:
        return
    found = _identity(path)
    if found == opened != _GONE:
        return
    connection.invalidate()
    connection.engine.dispose()
    became = "was deleted" if found == _GONE else "was replaced by another"
    raise LedgerUnavailable(
        f"the ledger's file {path} {became} while this process had it open",
        hint="the next try opens what is there now; before a restore stop every process and remove the old -wal and -shm too",
    )


def check_disk_space(url: URL) -> None:
    """Raise LedgerUnavailable when the file's disk is full: a small commit may still find room in the log that is there."""
    if (path := _path(url)) is None:
        return
    try:
        with TemporaryFile(dir=Path(path).parent) as probe:
            os.posix_fallocate(probe.fileno(), 0, _ROOM)
    except OSError as error:
        if missing := missing_resource():
            raise LedgerUnavailable(f"nothing can be written beside the ledger's file {path}: {missing}", hint=HINT) from error
        message = f"the disk of the ledger's file {path} takes no {_ROOM >> 10} KiB more: {error.strerror}"
        raise LedgerUnavailable(message, hint="make room on its disk: work goes on by itself") from error


def is_full(url: URL) -> bool:
    """Tell whether the file's disk has no room: SQLite calls that an I/O error, when its log or index cannot grow."""
    if (path := _path(url)) is None:
        return False
    try:
        disk = os.statvfs(Path(path).parent)
    except OSError:
        return False
    return disk.f_bavail * disk.f_frsize < _ROOM


def _path(url: URL) -> str | None:
    """Return where SQLite's file is; None in memory, and where the URL is SQLite's own (`file:…`)."""
    if not url.database or url.database == ":memory:" or url.database.startswith("file:"):
        return None
    return str(Path(url.database).absolute())


def _identity(path: str) -> str:
    try:
        found = os.stat(path)  # noqa: PTH116 - twice in each transaction: a Path costs as much again
    except OSError:
        return _GONE
    return f"{found.st_dev}:{found.st_ino}"


def _noted(path: str) -> _Files:
    """Return which files were opened together last."""
    try:
        return _Files(*Path(path + "-files").read_text(encoding="ascii").split(" "))
    except (OSError, ValueError, TypeError):  # there is no note yet, or none that can be read
        return _Files()


def _refuse_anothers_log(path: str) -> None:
    """Raise LedgerUnavailable when the log or the index beside a database was opened together with another database."""
    noted, wal, shm = _noted(path), _identity(path + "-wal"), _identity(path + "-shm")
    if noted.database == _identity(path) or not _size(path):  # SQLite itself removes the log of a file that is empty
        return
    if noted.wal == wal != _GONE or noted.shm == shm != _GONE:
        raise LedgerUnavailable(
            f"the ledger's file {path} is not the one that the {Path(path).name}-wal and -shm beside it belong to:"
            " it was replaced by another, which they would damage",
            hint="stop every process, remove that -wal and -shm, and start again",
        )


def _size(path: str) -> int:
    try:
        return Path(path).stat().st_size
    except OSError:
        return 0


def _prepare(dbapi_connection: Any, _record: object) -> None:
    """Take the transactions out of the driver's hands, and make a commit mean "on disk"."""
    dbapi_connection.isolation_level = None
    cursor = dbapi_connection.cursor()
    cursor.execute(f"PRAGMA busy_timeout = {int(BUSY_TIMEOUT * 1000)}")
    cursor.execute("PRAGMA journal_mode = WAL")
    cursor.execute("PRAGMA synchronous = FULL")  # a source is acknowledged after the commit: it must survive a power cut
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def _note(dbapi_connection: Any, record: Any) -> None:
    """Note which files are open together; look through a database that nobody has opened here before.

    Raises:
        LedgerUnavailable: it is damaged, as a copy is that was made while somebody wrote.
    """
    path, opened = record.info["redrive_file"]
    noted, found = _noted(path), _Files(opened, _identity(path + "-wal"), _identity(path + "-shm"))
    if noted.database != found.database:
        said = dbapi_connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if said != "ok":
            dbapi_connection.close()
            raise LedgerUnavailable(
                f"the ledger's file {path} is damaged: {shorten(said)}",
                hint="stop every process and restore a backup, made by sqlite3's .backup",
            )
    if noted != found:
        mine = Path(f"{path}-files.{os.getpid()}.{threading.get_ident()}")
        with suppress(OSError):  # without a note all works as well
            mine.write_text(" ".join(found), encoding="ascii")
            mine.replace(path + "-files")


def _begin(connection: Connection) -> None:
    """A deferred transaction that reads first and writes later fails with SQLITE_BUSY at once: writers begin IMMEDIATE."""
    read_only = connection.get_execution_options().get("redrive_read_only", False)
    connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")
