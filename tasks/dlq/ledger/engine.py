"""The ledger's database: connections, transactions, and the translation of its errors."""

from __future__ import annotations

import random
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, OperationalError, SQLAlchemyError

from tasks.dlq.errors import ConfigError, LedgerLocked, LedgerOutdated, LedgerUnavailable
from tasks.dlq.ledger.clock import DatabaseClock
from tasks.dlq.ledger.postgresql import (
    DISK_FULL,
    READ_ONLY,
    RETRYABLE,
    UNAVAILABLE,
    UNDEFINED,
    UNDEFINED_TABLE,
    disable_timeouts,
    ensure_replicated,
    postgresql_engine,
)
from tasks.dlq.ledger.sqlite import MAKE_ROOM, check_disk_space, ensure_same_file, is_full, sqlite_engine
from tasks.dlq.shortage import HINT, missing_resource
from tasks.dlq.text import shorten

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import Connection, Engine, Table

    from tasks.dlq.ledger.clock import Clock

T = TypeVar("T")

_TRIES = 5
UPGRADE = "run: redrive db upgrade"
#: What to do if the ledger is missing or empty.
CREATE = f"if it held jobs before, first see: Restore, docs/howto/backup.md; else {UPGRADE}"
#: SQLite's messages after a wait for the write lock, and after a read or a write that the system refused.
_LOCKED, _IO_ERROR = "database is locked", "disk I/O error"
#: SQLite's messages about a file that is not a database, and about a damaged one.
_NO_DATABASE = {"file is not a database", "database disk image is malformed"}


#: SQLite's message about a savepoint that ended with its transaction.
_NO_SAVEPOINT = "no such savepoint"


class Transaction:
    """One open transaction. It must be short: nothing inside it waits for I/O."""

    def __init__(self, connection: Connection, clock: Clock) -> None:
        self.connection = connection
        self._clock = clock

    def now(self) -> int:
        """Return the ledger's time in milliseconds. Read it after taking the locks on the rows that you compare it with."""
        return self._clock.read(self.connection)

    def steady_for(self) -> float:
        """Return the seconds for which this process knows that the ledger's clock made no step forward."""
        return self._clock.steady_for()

    def insert(self, table: Table) -> Any:
        """Return an INSERT of the dialect, which supports ON CONFLICT."""
        dialect = postgresql if self.connection.dialect.name == "postgresql" else sqlite
        return dialect.insert(table)


class Ledger:
    """The ledger at a database URL. It connects on first use. Create one per process: a fork must not share it.

    Raises:
        ConfigError: No ledger can be at this URL.
    """

    def __init__(self, url: str, *, clock: Clock | None = None) -> None:
        self.engine = _engine(url)
        self.clock = clock or DatabaseClock()

    @contextmanager
    def begin(self, *, read_only: bool = False) -> Iterator[Transaction]:
        """Open a transaction; commit at the end, roll back on any error. SQLite: writers take the lock at once.

        A read-only transaction sees one moment, however many statements it runs. It may take long, like an audit or a migration.
        Use `transact` for short transactions.

        Raises:
            LedgerUnavailable: The database does not answer, is full, stays locked, or its file was deleted or replaced.
            LedgerOutdated: A table or a column is missing.
        """
        with self._begin(read_only=read_only) as tx:
            if tx.connection.dialect.name == "postgresql":
                disable_timeouts(tx.connection)
            yield tx

    @contextmanager
    def _begin(self, *, read_only: bool) -> Iterator[Transaction]:
        options: dict[str, Any] = {"redrive_read_only": read_only}
        if read_only and self.engine.dialect.name == "postgresql":
            options["isolation_level"] = "REPEATABLE READ"
        try:
            with self.engine.connect().execution_options(**options) as connection:
                with connection.begin():
                    ensure_same_file(connection)
                    yield Transaction(connection, self.clock)
                ensure_same_file(connection)  # else the commit is in a file that no other process reads
                ensure_replicated(connection)
        except DBAPIError as error:
            if _sqlstate(error) == READ_ONLY:
                self.engine.dispose()  # the next connection looks for the primary server
            raise _translate(error, self.engine) from error
        except MemoryError as error:  # the driver of SQLite raises this too
            raise LedgerUnavailable("no transaction: this process gets no more memory", hint=HINT) from error

    def transact(self, work: Callable[[Transaction], T]) -> T:
        """Run `work` in a transaction, and again after a deadlock. `work` must have no other effects.

        Raises:
            LedgerUnavailable: See `begin`.
        """
        for tries in range(1, _TRIES + 1):
            try:
                with self._begin(read_only=False) as tx:
                    return work(tx)
            except LedgerUnavailable as error:
                if tries == _TRIES or _sqlstate(error.__cause__) not in RETRYABLE:
                    raise
                time.sleep(0.01 * 2**tries * random.uniform(0.5, 1.5))  # noqa: S311 - two transactions must not collide again
        raise AssertionError("unreachable")

    def check_disk_space(self) -> None:
        """Raise LedgerUnavailable if SQLite's disk is full. PostgreSQL watches its own."""
        if self.engine.dialect.name == "sqlite":
            check_disk_space(self.engine.url)

    def close(self) -> None:
        """Close all connections."""
        self.engine.dispose()


def _engine(url: str) -> Engine:
    try:
        parsed = make_url(url)
        if parsed.get_backend_name() == "postgresql":
            return postgresql_engine(parsed)
        if parsed.get_backend_name() != "sqlite":
            raise ConfigError(f"a ledger cannot be at {parsed.render_as_string()}", hint="use sqlite:///… or postgresql://…")
        return sqlite_engine(parsed)
    except (SQLAlchemyError, ValueError) as error:  # ValueError: a port that is not a number
        raise ConfigError("the ledger's URL cannot be read", hint="for example sqlite:///.redrive/ledger.db") from error
    except OSError as error:
        raise LedgerUnavailable(f"the ledger's directory cannot be created: {error}", hint="check ledger.url") from error


def _sqlstate(error: BaseException | None) -> str | None:
    """Return PostgreSQL's code of the error."""
    return getattr(getattr(error, "orig", None), "sqlstate", None)


def _translate(error: DBAPIError, engine: Engine) -> Exception:
    where = engine.url.render_as_string(hide_password=True)
    error = _find_cause(error)
    message = shorten(error.orig)
    if _is_outdated(error, message):
        empty = "no such table" in message or _sqlstate(error) == UNDEFINED_TABLE
        hint = CREATE if empty else UPGRADE
        return LedgerOutdated(f"the ledger at {where} is empty or not up to date: {message}", hint=hint)
    if message == _LOCKED:
        hint = "another process holds its write lock: if it does not end, find it with fuser or lsof (docs/howto/on-call.md)"
        return LedgerLocked(f"the ledger at {where} does not answer: {message}", hint=hint)
    unavailable = message in _NO_DATABASE or _sqlstate(error) in UNAVAILABLE
    if unavailable or isinstance(error, OperationalError) or error.connection_invalidated:
        more, hint = _explain(error, message, engine)
        return LedgerUnavailable(f"the ledger at {where} does not answer: {message}{more}", hint=hint)
    return error


def _explain(error: DBAPIError, message: str, engine: Engine) -> tuple[str, str]:
    """Return what the message does not say itself, and a hint."""
    if "full" in message or _sqlstate(error) == DISK_FULL:
        return "", MAKE_ROOM
    if missing := missing_resource():  # neither SQLite nor libpq mentions it
        return f"; {missing}", HINT
    if engine.dialect.name == "sqlite":
        if is_full(engine.url):
            return "; its disk is full", MAKE_ROOM
        if message == _IO_ERROR:
            return "", "check its disk: free space (df), quota, and the kernel's messages (dmesg)"
    return "", "check ledger.url, REDRIVE_STATE_DIR and the database"


def _find_cause(error: DBAPIError) -> DBAPIError:
    """Return why SQLite ended a transaction by itself (a full disk), if the error is that the savepoint ended with it."""
    cause: BaseException | None = error
    while cause is not None and _NO_SAVEPOINT in str(cause):
        cause = cause.__context__
    return cause if isinstance(cause, DBAPIError) else error


def _is_outdated(error: DBAPIError, message: str) -> bool:
    """Tell whether a table or a column is missing."""
    if sqlstate := _sqlstate(error):
        return sqlstate in UNDEFINED  # the message "does not exist" may also be about a database or a role
    missing = any(text in message for text in ("no such table", "no such column", "has no column"))
    return isinstance(error, OperationalError) and missing
