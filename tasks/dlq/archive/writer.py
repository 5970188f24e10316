"""Export: the whole ledger as it is at one moment, row by row, while others write."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import LargeBinary, func, select, text

from tasks.dlq.archive.file_format import Header, Writer, columns_of, exported

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Table

    from tasks.dlq.ledger.engine import Transaction

#: Rows that are fetched at a time; of those with bodies, which may be large, fewer.
_FETCH, _FETCH_BODIES = 1000, 10


def header(tx: Transaction, *, revision: str, redrive: str) -> Header:
    """Return an export's first line. From here on `tx`, a read-only transaction, sees one moment.

    Args:
        tx: an open read-only transaction.
        revision: the schema's.
        redrive: the version that exports.
    """
    if tx.connection.dialect.name == "postgresql":
        tx.connection.execute(text("SET TRANSACTION READ ONLY"))
    at = tx.now()
    return Header(revision=revision, redrive=redrive, at=at, last_ids={each.name: _last_id(tx, each) for each in numbered()})


def count(tx: Transaction) -> int:
    """Return how many rows an export has."""
    return sum(tx.connection.scalars(select(func.count()).select_from(table)).one() for table in exported())


def export(tx: Transaction, first: Header, write: Callable[[bytes], object], reached: Callable[[int], None]) -> Writer:
    """Write every row, in the order of the primary keys.

    Args:
        tx: the transaction of which `first` is.
        first: see `header`.
        write: takes each line, with its end.
        reached: is told now and then how many rows have been written.

    Returns:
        What wrote them, with the number of each table's rows; its `end` is the caller's to call.
    """
    writer, done = Writer(write, first), 0
    for table in exported():
        columns = columns_of(table)
        names = [column.name for column in columns]
        fetch = _FETCH_BODIES if any(isinstance(column.type, LargeBinary) for column in columns) else _FETCH
        rows = select(*columns).order_by(*table.primary_key)
        for some in tx.connection.execute(rows, execution_options={"yield_per": fetch}).partitions():
            for row in some:
                writer.row(table.name, dict(zip(names, row, strict=True)))
            done += len(some)
            reached(done)
    return writer


def numbered() -> list[Table]:
    """Return the exported tables whose rows the database numbers."""
    return [table for table in exported() if table.autoincrement_column is not None]


def _last_id(tx: Transaction, table: Table) -> int:
    """Return the last id that the table gave out, whether or not its row is still there, as far as the database knows."""
    highest = tx.connection.scalar(select(func.max(table.c.id))) or 0
    return int(max(highest, tx.connection.scalar(_GIVEN_OUT[tx.connection.dialect.name], {"table": table.name}) or 0))


#: What the database itself counts by. PostgreSQL's sequences stand outside of transactions: they may only be further.
_GIVEN_OUT = {
    "sqlite": text("SELECT seq FROM sqlite_sequence WHERE name = :table"),
    "postgresql": text(
        "SELECT last_value FROM pg_sequences"
        " WHERE format('%I.%I', schemaname, sequencename) = pg_get_serial_sequence(CAST(:table AS text), 'id')"
    ),
}
