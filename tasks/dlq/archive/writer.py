"""Export: the whole ledger as it is at one moment, row by row, while other transactions go on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import LargeBinary, func, select, text

from tasks.dlq.archive.file_format import Header, Writer, exported_columns, exported_tables

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Table

    from tasks.dlq.ledger.engine import Transaction

#: Rows that are fetched at a time; fewer of those with bodies, which may be large.
_FETCH, _FETCH_BODIES = 1000, 10


def read_header(tx: Transaction, *, revision: str, redrive: str) -> Header:
    """Return the first line of an export. From here on the transaction sees one moment.

    Args:
        tx: An open read-only transaction.
        revision: The revision of the schema.
        redrive: The version of Redrive.
    """
    if tx.connection.dialect.name == "postgresql":
        tx.connection.execute(text("SET TRANSACTION READ ONLY"))
    at = tx.now()
    last_ids = {table.name: _last_id(tx, table) for table in numbered_tables()}
    return Header(revision=revision, redrive=redrive, at=at, last_ids=last_ids)


def count_rows(tx: Transaction) -> int:
    """Return the number of rows of an export."""
    return sum(tx.connection.scalars(select(func.count()).select_from(table)).one() for table in exported_tables())


def write_rows(tx: Transaction, header: Header, write: Callable[[bytes], object], report: Callable[[int], None]) -> Writer:
    """Write every row, in the order of the primary keys.

    Args:
        tx: The transaction that `read_header` used.
        header: The first line.
        write: Takes each line, with its line end.
        report: Takes the number of rows so far, now and then.

    Returns:
        The writer, for the caller to end.
    """
    writer, done = Writer(write, header), 0
    for table in exported_tables():
        columns = exported_columns(table)
        names = [column.name for column in columns]
        fetch = _FETCH_BODIES if any(isinstance(column.type, LargeBinary) for column in columns) else _FETCH
        rows = select(*columns).order_by(*table.primary_key)
        for some in tx.connection.execute(rows, execution_options={"yield_per": fetch}).partitions():
            for row in some:
                writer.write_row(table.name, dict(zip(names, row, strict=True)))
            done += len(some)
            report(done)
    return writer


def numbered_tables() -> list[Table]:
    """Return the exported tables whose rows the database numbers."""
    return [table for table in exported_tables() if table.autoincrement_column is not None]


def _last_id(tx: Transaction, table: Table) -> int:
    """Return the last id that the table gave out, even if its row was deleted."""
    highest = tx.connection.scalar(select(func.max(table.c.id))) or 0
    return int(max(highest, tx.connection.scalar(_GIVEN_OUT[tx.connection.dialect.name], {"table": table.name}) or 0))


#: The database's own counters. PostgreSQL's sequences are outside of transactions, so they can only be ahead.
_GIVEN_OUT = {
    "sqlite": text("SELECT seq FROM sqlite_sequence WHERE name = :table"),
    "postgresql": text(
        "SELECT last_value FROM pg_sequences"
        " WHERE format('%I.%I', schemaname, sequencename) = pg_get_serial_sequence(CAST(:table AS text), 'id')"
    ),
}
