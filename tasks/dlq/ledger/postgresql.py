"""PostgreSQL's part of the ledger's connections: found dead soon, never waiting without end, and a commit means "on disk"."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import create_engine, event, text

from tasks.dlq.errors import LedgerUnavailable

if TYPE_CHECKING:
    from psycopg.errors import Diagnostic
    from sqlalchemy import URL, Connection, Engine
    from sqlalchemy.pool import ConnectionPoolEntry

#: How libpq connects, and notices a peer that is gone. What the URL says itself (`?connect_timeout=3`) has precedence.
CONNECT = {
    "application_name": "redrive",
    "connect_timeout": "10",  # seconds, as the next three
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "15000",  # milliseconds that what was sent may stay unacknowledged
    "target_session_attrs": "read-write",  # of several hosts the primary; never a standby
}
#: Milliseconds. Whoever is stopped inside a transaction loses it, and its locks, before those who wait for them give up.
LIMITS = {"statement_timeout": "60000", "lock_timeout": "30000", "idle_in_transaction_session_timeout": "15000"}
#: Deadlock and serialisation failure: the database's invitation to run the transaction again.
RUN_AGAIN = {"40P01", "40001"}
#: undefined_table; with undefined_column.
UNDEFINED_TABLE = "42P01"
UNDEFINED = {UNDEFINED_TABLE, "42703"}
DISK_FULL = "53100"
#: read_only_sql_transaction: the server became a standby under an open connection.
STANDBY = "25006"
#: What is no fault of the statement, though the driver does not call it operational: standby, no such database, no grant.
TROUBLE = {STANDBY, "3D000", "42501"}

#: Where a connection keeps the server's last warning.
_WARNING = "redrive_warning"
_UNLIMITED = text(
    "SELECT set_config('statement_timeout', '0', true), set_config('idle_in_transaction_session_timeout', '0', true)"
)


def postgresql_engine(url: URL) -> Engine:
    """Return the engine of a ledger on PostgreSQL: up to ten connections, each tried before it is used."""
    asked = {name: value for name, value in CONNECT.items() if name not in url.query}
    engine = create_engine(
        url.set(drivername="postgresql+psycopg"),
        connect_args=asked,
        pool_pre_ping=True,
        pool_size=5,
        max_overflow=5,
        isolation_level="READ COMMITTED",
    )
    event.listen(engine, "connect", _prepare)
    event.listen(engine, "commit", lambda connection: connection.info.pop(_WARNING, None))
    return engine


def doubt(connection: Connection) -> None:
    """Raise LedgerUnavailable when the commit ended in a warning: somebody ended its wait before the standby had it.

    It may be lost with the server, so nothing is built on it; like any commit whose answer is lost it may be repeated.
    """
    if said := connection.info.pop(_WARNING, None):
        hint = "see to the synchronous standby, or take it out of synchronous_standby_names"
        raise LedgerUnavailable(f"the ledger has committed on one server only: {said}", hint=hint)


def lift_limits(connection: Connection) -> None:
    """Let this transaction take its time: an audit reads all letters, a migration rewrites tables."""
    connection.execute(_UNLIMITED)


def _prepare(dbapi_connection: Any, record: ConnectionPoolEntry) -> None:
    def keep(notice: Diagnostic) -> None:
        if notice.severity_nonlocalized == "WARNING":
            record.info[_WARNING] = notice.message_primary

    dbapi_connection.add_notice_handler(keep)
    limits = [f"set_config('{name}', '{value}', false)" for name, value in LIMITS.items()]
    # A source is acknowledged after the commit: it must survive the server's crash and its loss, whatever is the default there.
    weak = "current_setting('synchronous_commit') IN ('off', 'local')"
    durable = f"CASE WHEN {weak} THEN set_config('synchronous_commit', 'on', false) END"
    dbapi_connection.execute(f"SELECT {', '.join([*limits, durable])}")
    dbapi_connection.commit()
