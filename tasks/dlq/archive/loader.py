"""Import: an exported ledger into an empty one, all or nothing.

What an export says of processes and clocks is another ledger's. So that nothing is called twice and nothing waits without end:

- A lease or a rest that was not over at the export has as long to go as it had then, by this ledger's clock: the call that it
  protects may be open still, or the API working on it. Whoever made that call can still settle it: the token comes along.
- What waits for its time waits no longer than it had to at the export, should this ledger's clock be behind the other's.
- Wake-ups that were out stay behind (`tasks.dlq.archive.file_format`): the next sweep rings.
- No route calls for its lease and drain: the export does not know the calls that were begun after it, and may be open.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from sqlalchemy import Table, insert, or_, select, text
from sqlalchemy.exc import DBAPIError

from tasks.dlq.archive.file_format import Row, exported
from tasks.dlq.archive.rules import LAST_MOMENT
from tasks.dlq.archive.writer import numbered
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

#: Rows that are inserted at a time, and about how many bytes of bodies.
_BATCH, _BATCH_BYTES = 500, 8 << 20
#: (a moment, the export's, now) -> the moment by this ledger's clock
Shift = Callable[[int, int, int], int]


def read_in(tx: Transaction, reader: Reader, reached: Callable[[int], None], *, configured: Mapping[str, Route]) -> None:
    """Import the rows of a file.

    Args:
        tx: an open transaction on a ledger of the file's schema; the caller rolls it back on any error.
        reader: the file, at its first row.
        reached: is told now and then how many rows have been read.
        configured: the routes that must not call at once.

    Raises:
        Refused: the ledger holds something; the file is not whole; a row does not fit.
    """
    refuse_unless_empty(tx)
    now = tx.now()
    for batch in _batches(reader):
        for row in batch:
            _rebase(row, reader.header.at, now)
        _insert(tx, reader, batch)
        reached(reader.rows.total())
    for table in numbered():
        _count_on(tx, table, reader.header.last_ids.get(table.name, 0))
    for _, route in sorted(configured.items()):
        locked = lock_route(tx, route)
        locked.hold_until(locked.now + round(hold(route) * 1000))


def hold(route: Route) -> float:
    """Return the seconds after an import in which the route makes no call: until any call that was begun before is over."""
    return route.lease + route.drain


def refuse_unless_empty(tx: Transaction) -> None:
    """Lock the ledger, and raise Refused when it holds anything. A route that nothing has happened to counts for nothing."""
    if tx.connection.dialect.name == "postgresql":  # SQLite's writer is alone by nature
        names = ", ".join(table.name for table in exported())
        tx.connection.execute(text(f"LOCK TABLE {names} IN SHARE ROW EXCLUSIVE MODE"))
    route = routes.c
    at_work = or_(route.fence > 0, route.not_before > 0, route.faults > 0, route.breaker_open, route.paused_at.is_not(None))
    if name := tx.connection.scalar(select(route.name).where(at_work).limit(1)):
        raise _holds_something(f"it knows something of the route {name}")
    for table in exported():
        if table is not routes and tx.connection.execute(select(table).limit(1)).first():
            raise _holds_something(f"{table.name} has rows")
    tx.connection.execute(routes.delete())


def _holds_something(what: str) -> Refused:
    hint = "a ledger is imported into an empty one: give another ledger.url, or a new database"
    return Refused(f"the ledger is not empty: {what}", hint=hint)


# --- rows ----------------------------------------------------------------------------------------------------------


def _batches(rows: Iterable[Row]) -> Iterable[list[Row]]:
    """Yield rows of one table at a time."""
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
            raise reader.refused(_told(batch[0], error), line=batch[0].line) from error
        for row in batch:
            _insert(tx, reader, [row])


def _told(row: Row, error: Exception) -> str:
    said = shorten(error.orig if isinstance(error, DBAPIError) else error)
    return f"the ledger does not take this row of {row.table.name}: {said}"


# --- times ---------------------------------------------------------------------------------------------------------


def _protects(moment: int, at: int, now: int) -> int:
    """What protects a call lasts at least as long as it would have."""
    return now + moment - at if moment > at else min(moment, now)


def _waits(moment: int, at: int, now: int) -> int:
    """What waits does so at most as long as it would have."""
    return min(moment, now + max(moment - at, 0))


_TIMES: Mapping[Table, Mapping[str, Shift]] = {
    jobs: {"lease_until": _protects, "rest_until": _protects, "due_at": _waits},
    routes: {"not_before": _waits, "probe_at": _waits},
    alerts: {"deliver_after": _waits},
}


def _rebase(row: Row, at: int, now: int) -> None:
    for column, shift in _TIMES.get(row.table, {}).items():
        if row.values[column] is not None:
            row.values[column] = min(shift(row.values[column], at, now), LAST_MOMENT)


# --- ids -----------------------------------------------------------------------------------------------------------


def _count_on(tx: Transaction, table: Table, last_id: int) -> None:
    """Have the table give out only ids above this one, and above those of its rows: none is ever given out twice."""
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
