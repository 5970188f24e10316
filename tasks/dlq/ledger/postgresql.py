"""PostgreSQL's part of the ledger's connections: a dead server is noticed soon, no wait is endless, and a commit is durable."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import create_engine, event, text

from tasks.dlq.errors import LedgerUnavailable

if TYPE_CHECKING:
    from psycopg.errors import Diagnostic
    from sqlalchemy import URL, Connection, Engine
    from sqlalchemy.pool import ConnectionPoolEntry

#: How libpq connects, and notices a dead server. The URL's own options (`?connect_timeout=3`) have precedence.
CONNECT = {
    "application_name": "redrive",
    "connect_timeout": "10",  # seconds, as the next three
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "15000",  # milliseconds without an acknowledgement of sent data
    "target_session_attrs": "read-write",  # the primary of several hosts, never a standby
}
#: Milliseconds. A process that is stopped inside a transaction loses its locks before other processes stop waiting for them.
LIMITS = {"statement_timeout": "60000", "lock_timeout": "30000", "idle_in_transaction_session_timeout": "15000"}
#: Deadlock and serialisation failure: run the transaction again.
RETRYABLE = {"40P01", "40001"}
#: undefined_table, undefined_column.
UNDEFINED_TABLE = "42P01"
UNDEFINED = {UNDEFINED_TABLE, "42703"}
DISK_FULL = "53100"
#: read_only_sql_transaction: the server became a standby while the connection was open.
READ_ONLY = "25006"
#: A standby, a missing database, a missing grant: not faults of the statement, but the driver does not call them operational.
UNAVAILABLE = {READ_ONLY, "3D000", "42501"}

#: The key of the server's last warning in `Connection.info`.
_WARNING = "redrive_warning"
_NO_TIMEOUTS = text(
    "SELECT set_config('statement_timeout', '0', true), set_config('idle_in_transaction_session_timeout', '0', true)"
)


def postgresql_engine(url: URL) -> Engine:
    """Return the engine of a ledger on PostgreSQL: up to ten connections, each tested before use."""
    connect_args = {name: value for name, value in CONNECT.items() if name not in url.query}
    engine = create_engine(
        url.set(drivername="postgresql+psycopg"),
        connect_args=connect_args,
        pool_pre_ping=True,
        pool_size=5,
        max_overflow=5,
        isolation_level="READ COMMITTED",
    )
    event.listen(engine, "connect", _prepare)
    event.listen(engine, "commit", lambda connection: connection.info.pop(_WARNING, None))
    return engine


def ensure_replicated(connection: Connection) -> None:
    """Raise LedgerUnavailable if the commit ended with a warning: its wait for the standby was cancelled.

    The commit may be lost with the server, so nothing may depend on it. It may be repeated, like a commit without an answer.
    """
    if warning := connection.info.pop(_WARNING, None):
        hint = "check the synchronous standby, or remove it from synchronous_standby_names"
        raise LedgerUnavailable(f"the ledger has committed on one server only: {warning}", hint=hint)


def disable_timeouts(connection: Connection) -> None:
    """Let this transaction take long: an audit reads all dead letters, a migration rewrites tables."""
    connection.execute(_NO_TIMEOUTS)


def _prepare(dbapi_connection: Any, record: ConnectionPoolEntry) -> None:
    def keep_warning(notice: Diagnostic) -> None:
        if notice.severity_nonlocalized == "WARNING":
            record.info[_WARNING] = notice.message_primary

    dbapi_connection.add_notice_handler(keep_warning)
    limits = [f"set_config('{name}', '{value}', false)" for name, value in LIMITS.items()]
    # A source is acknowledged after the commit, which must survive a crash of the server, whatever its default is.
    weak = "current_setting('synchronous_commit') IN ('off', 'local')"
    durable = f"CASE WHEN {weak} THEN set_config('synchronous_commit', 'on', false) END"
    dbapi_connection.execute(f"SELECT {', '.join([*limits, durable])}")
    dbapi_connection.commit()
