"""The ledger's database: connections, transactions, and what becomes of their errors."""

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
    RUN_AGAIN,
    STANDBY,
    TROUBLE,
    UNDEFINED,
    UNDEFINED_TABLE,
    doubt,
    lift_limits,
    postgresql_engine,
)
from tasks.dlq.ledger.sqlite import check_disk_space, is_full, sqlite_engine, stay
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
_MAKE_ROOM = "make room on its disk: work goes on by itself"
#: What SQLite says when it has waited for the write lock long enough, and when the system refuses it a read or a write.
_LOCKED, _IO_ERROR = "database is locked", "disk I/O error"
#: What SQLite says of a file that is no database, or a damaged one.
_NO_DATABASE = {"file is not a database", "database disk image is malformed"}


class Transaction:
    """One open transaction. Short by contract: nothing waits for I/O inside it."""

    def __init__(self, connection: Connection, clock: Clock) -> None:
        self.connection = connection
        self._clock = clock

    def now(self) -> int:
        """Return the ledger's time in milliseconds. Read it after the locks that it is compared under."""
        return self._clock.read(self.connection)

    def steady_for(self) -> float:
        """Return the seconds for which this process knows that the ledger's clock was not stepped forward."""
        return self._clock.steady_for()

    def insert(self, table: Table) -> Any:
        """Return the dialect's INSERT, which knows ON CONFLICT."""
        dialect = postgresql if self.connection.dialect.name == "postgresql" else sqlite
        return dialect.insert(table)


#: What SQLite says of a savepoint that went with its transaction.
_NO_SAVEPOINT = "no such savepoint"


class Ledger:
    """The ledger at a database URL. Connects lazily; make one per process (never share it over a fork).

    Raises:
        ConfigError: the URL is none that a ledger can be at.
    """

    def __init__(self, url: str, *, clock: Clock | None = None) -> None:
        self.engine = _engine(url)
        self.clock = clock or DatabaseClock()

    @contextmanager
    def begin(self, *, read_only: bool = False) -> Iterator[Transaction]:
        """Open a transaction; commit at the end, roll back on any error. SQLite: writers take the lock at once.

        A read-only one sees a single moment, however many statements it takes: SQLite's do so by nature. It may take its time,
        as audits and migrations do; what is short by nature goes through `transact`.

        Raises:
            LedgerUnavailable: the database does not answer, is full, stays locked, or its file was deleted or replaced.
            LedgerOutdated: a table or column is missing.
        """
        with self._begin(read_only=read_only) as tx:
            if tx.connection.dialect.name == "postgresql":
                lift_limits(tx.connection)
            yield tx

    @contextmanager
    def _begin(self, *, read_only: bool) -> Iterator[Transaction]:
        options: dict[str, Any] = {"redrive_read_only": read_only}
        if read_only and self.engine.dialect.name == "postgresql":
            options["isolation_level"] = "REPEATABLE READ"
        try:
            with self.engine.connect().execution_options(**options) as connection:
                with connection.begin():
                    stay(connection)
                    yield Transaction(connection, self.clock)
                stay(connection)  # else the commit is in a file that nobody will read: nothing may be built on it
                doubt(connection)
        except DBAPIError as error:
            if _sqlstate(error) == STANDBY:
                self.engine.dispose()  # the next connection looks for the primary
            raise _translated(error, self.engine) from error
        except MemoryError as error:  # SQLite's as well: its driver raises this, and no error of its own
            raise LedgerUnavailable("no transaction: this process gets no more memory", hint=HINT) from error

    def transact(self, work: Callable[[Transaction], T]) -> T:
        """Run `work` in a transaction, again when the database asks for it (a deadlock). `work` must have no effects outside.

        Raises:
            LedgerUnavailable: as `begin`.
        """
        for tries in range(1, _TRIES + 1):
            try:
                with self._begin(read_only=False) as tx:
                    return work(tx)
            except LedgerUnavailable as error:
                if tries == _TRIES or _sqlstate(error.__cause__) not in RUN_AGAIN:
                    raise
                time.sleep(0.01 * 2**tries * random.uniform(0.5, 1.5))  # noqa: S311 - so that two do not meet again
        raise AssertionError("unreachable")

    def check_disk_space(self) -> None:
        """Raise LedgerUnavailable when SQLite's disk is full; PostgreSQL's is its own affair."""
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
    except (SQLAlchemyError, ValueError) as error:  # ValueError: a port that is no number
        raise ConfigError("the ledger's URL cannot be read", hint="for example sqlite:///.redrive/ledger.db") from error
    except OSError as error:
        raise LedgerUnavailable(f"the ledger's folder cannot be made: {error}", hint="check ledger.url") from error


def _sqlstate(error: BaseException | None) -> str | None:
    """Return what PostgreSQL calls the error."""
    return getattr(getattr(error, "orig", None), "sqlstate", None)


def _translated(error: DBAPIError, engine: Engine) -> Exception:
    where = engine.url.render_as_string(hide_password=True)
    error = _first(error)
    said = shorten(error.orig)
    if _lacks_a_table_or_column(error, said):
        empty = "no such table" in said or _sqlstate(error) == UNDEFINED_TABLE
        return LedgerOutdated(f"the ledger at {where} is empty or not up to date: {said}", hint=CREATE if empty else UPGRADE)
    if said == _LOCKED:
        hint = "another process holds its write lock: if it does not end, find it with fuser or lsof (docs/howto/on-call.md)"
        return LedgerLocked(f"the ledger at {where} does not answer: {said}", hint=hint)
    trouble = said in _NO_DATABASE or _sqlstate(error) in TROUBLE
    if trouble or isinstance(error, OperationalError) or error.connection_invalidated:
        more, hint = _explained(error, said, engine)
        return LedgerUnavailable(f"the ledger at {where} does not answer: {said}{more}", hint=hint)
    return error


def _explained(error: DBAPIError, said: str, engine: Engine) -> tuple[str, str]:
    """Return what the database did not say itself, and what to do next."""
    if "full" in said or _sqlstate(error) == DISK_FULL:
        return "", _MAKE_ROOM
    if missing := missing_resource():  # neither SQLite nor libpq says so
        return f"; {missing}", HINT
    if engine.dialect.name == "sqlite":
        if is_full(engine.url):
            return "; its disk is full", _MAKE_ROOM
        if said == _IO_ERROR:
            return "", "see to the disk that holds it: its room (df), its quota, and what the kernel says of it (dmesg)"
    return "", "check ledger.url, REDRIVE_STATE_DIR and the database"


def _first(error: DBAPIError) -> DBAPIError:
    """Return why SQLite ended a transaction by itself (its disk is full), when the way back to a savepoint fails for that."""
    before: BaseException | None = error
    while before is not None and _NO_SAVEPOINT in str(before):
        before = before.__context__
    return before if isinstance(before, DBAPIError) else error


def _lacks_a_table_or_column(error: DBAPIError, said: str) -> bool:
    """Tell an old schema from trouble; PostgreSQL says "does not exist" of databases and roles, too."""
    if sqlstate := _sqlstate(error):
        return sqlstate in UNDEFINED
    old = any(sign in said for sign in ("no such table", "no such column", "has no column"))
    return isinstance(error, OperationalError) and old
