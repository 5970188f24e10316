"""Import: an exported ledger into an empty one, all or nothing.

The times in an export are those of another ledger's clock. So that no key is called twice at once, and nothing waits for ever:

- A lease or a rest that was not over at the export lasts as long as it had left then, by this ledger's clock. The call that it
  protects may still be open. The worker of that call can still settle it, because the token is imported.
- A job waits at most as long as it had left at the export, even if this ledger's clock is behind.
- Wake-ups are not imported: the next sweep sends new ones.
- No route makes a call for the length of its lease and drain: a call that began after the export may still be open.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from sqlalchemy import Table, insert, or_, select, text
from sqlalchemy.exc import DBAPIError

from tasks.dlq.archive.file_format import Row, exported_tables
from tasks.dlq.archive.rules import LAST_MOMENT
from tasks.dlq.archive.writer import numbered_tables
from tasks.dlq.errors import Refused
from tasks.dlq.ledger.routes import lock_route
from tasks.dlq.ledger.savepoints import REFUSALS, is_bad_row
from tasks.dlq.ledger.schema import alerts, jobs, routes
from tasks.dlq.text import shorten

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from tasks.dlq.archive.file_format import Reader
    from tasks.dlq.calls.route import Route
    from tasks.dlq.ledger.engine import Transaction

#: Rows that are inserted at a time, and about how many bytes of texts and bodies.
_BATCH, _BATCH_BYTES = 500, 8 << 20
#: (a time, the export's time, now) -> the time by this ledger's clock
Shift = Callable[[int, int, int], int]


def load(tx: Transaction, reader: Reader, report: Callable[[int], None], *, configured: Mapping[str, Route]) -> None:
    """Import the rows of a file.

    Args:
        tx: An open transaction on a ledger of the file's schema. The caller rolls it back on any error.
        reader: The file, at its first row.
        report: Takes the number of rows so far, now and then.
        configured: The routes that must not make a call at once.

    Raises:
        Refused: The ledger is not empty, the file is not whole, or a row does not fit.
    """
    refuse_unless_empty(tx)
    now = tx.now()
    for batch in _batches(reader):
        for row in batch:
            _rebase(row, reader.header.at, now)
        _insert(tx, reader, batch)
        report(reader.rows.total())
    for table in numbered_tables():
        _set_last_id(tx, table, reader.header.last_ids.get(table.name, 0))
    for _, route in sorted(configured.items()):
        locked = lock_route(tx, route)
        locked.hold_until(locked.now + round(seconds_without_calls(route) * 1000))


def seconds_without_calls(route: Route) -> float:
    """Return how long the route makes no call after an import: until every call that began before it is over."""
    return route.lease + route.drain


def refuse_unless_empty(tx: Transaction) -> None:
    """Lock the ledger; raise Refused if it has any row, except those of routes that were never used."""
    if tx.connection.dialect.name == "postgresql":  # SQLite has only one writer anyway
        names = ", ".join(table.name for table in exported_tables())
        tx.connection.execute(text(f"LOCK TABLE {names} IN SHARE ROW EXCLUSIVE MODE"))
    route = routes.c
    used = or_(route.fence > 0, route.not_before > 0, route.faults > 0, route.breaker_open, route.paused_at.is_not(None))
    if name := tx.connection.scalar(select(route.name).where(used).limit(1)):
        raise _not_empty(f"the route {name} was used")
    for table in exported_tables():
        if table is not routes and tx.connection.execute(select(table).limit(1)).first():
            raise _not_empty(f"{table.name} has rows")
    tx.connection.execute(routes.delete())


def _not_empty(reason: str) -> Refused:
    hint = "an import needs an empty ledger: use another ledger.url, or a new database"
    return Refused(f"the ledger is not empty: {reason}", hint=hint)


# --- rows ----------------------------------------------------------------------------------------------------------


def _batches(rows: Iterable[Row]) -> Iterable[list[Row]]:
    """Yield the rows in batches of one table."""
    batch: list[Row] = []
    size = 0
    for row in rows:
        if batch and (row.table is not batch[0].table or len(batch) == _BATCH or size > _BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(row)
        size += sum(len(value) for value in row.values.values() if isinstance(value, str | bytes))
    if batch:
        yield batch


def _insert(tx: Transaction, reader: Reader, batch: Sequence[Row]) -> None:
    try:
        with tx.connection.begin_nested():
            tx.connection.execute(insert(batch[0].table), [row.values for row in batch])
    except REFUSALS as error:
        if not is_bad_row(error):
            raise
        if len(batch) == 1:
            raise reader.refused(_message(batch[0], error), line=batch[0].line) from error
        for row in batch:
            _insert(tx, reader, [row])


def _message(row: Row, error: Exception) -> str:
    text = shorten(error.orig if isinstance(error, DBAPIError) else error)
    return f"the ledger refused this row of {row.table.name}: {text}"


# --- times ---------------------------------------------------------------------------------------------------------


def _shift_lease(time: int, at: int, now: int) -> int:
    """A lease lasts at least as long as it had left."""
    return now + time - at if time > at else min(time, now)


def _shift_wait(time: int, at: int, now: int) -> int:
    """A wait lasts at most as long as it had left."""
    return min(time, now + max(time - at, 0))


_TIMES: Mapping[Table, Mapping[str, Shift]] = {
    jobs: {"lease_until": _shift_lease, "rest_until": _shift_lease, "due_at": _shift_wait},
    routes: {"not_before": _shift_wait, "probe_at": _shift_wait},
    alerts: {"deliver_after": _shift_wait},
}


def _rebase(row: Row, at: int, now: int) -> None:
    for column, shift in _TIMES.get(row.table, {}).items():
        if row.values[column] is not None:
            row.values[column] = min(shift(row.values[column], at, now), LAST_MOMENT)


# --- ids -----------------------------------------------------------------------------------------------------------


def _set_last_id(tx: Transaction, table: Table, last_id: int) -> None:
    """Make the table give out only ids above this one and those of its rows. No id is ever given out twice."""
    highest = select(table.c.id).order_by(table.c.id.desc()).limit(1)
    last_id = max(last_id, tx.connection.scalar(highest) or 0)
    if tx.connection.dialect.name == "postgresql":
        named = {"table": table.name, "last": max(last_id, 1), "given": last_id > 0}
        statement = "SELECT setval(pg_get_serial_sequence(CAST(:table AS text), 'id'), :last, :given)"
        tx.connection.execute(text(statement), named)
    elif table.dialect_options["sqlite"]["autoincrement"]:
        tx.connection.execute(text("DELETE FROM sqlite_sequence WHERE name = :table"), {"table": table.name})
        named = {"table": table.name, "last": last_id}
        tx.connection.execute(text("INSERT INTO sqlite_sequence (name, seq) VALUES (:table, :last)"), named)
