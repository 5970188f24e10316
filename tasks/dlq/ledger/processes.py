"""The processes that are there: each writes a heartbeat, by the database's clock, and takes its row along when it ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, select

from tasks.dlq.ledger.schema import processes
from tasks.dlq.text import format_time

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Row

    from tasks.dlq.ledger.engine import Transaction
    from tasks.dlq.process import Process

#: Milliseconds for which the row of a process that is gone is kept: its end is of interest for so long.
_KEPT = 3_600_000


def see(tx: Transaction, process: Process) -> None:
    """Note that the process is alive now."""
    now = tx.now()
    row = {
        "name": process.name,
        "role": process.role,
        "host": process.host,
        "pid": process.pid,
        "main_pid": process.main_pid,
        "version": process.version,
        "serves": " ".join(process.serves),
    }
    noted = tx.insert(processes).on_conflict_do_update(index_elements=["name"], set_={**row, "seen_at": now})
    tx.connection.execute(noted, {**row, "began_at": now, "seen_at": now})


def forget(tx: Transaction, process: Process) -> None:
    """Remove the row of a process that ends."""
    tx.connection.execute(delete(processes).where(processes.c.name == process.name))


def forget_unseen(tx: Transaction) -> int:
    """Remove the rows of processes that were not seen for an hour; return how many."""
    return tx.connection.execute(delete(processes).where(processes.c.seen_at < tx.now() - _KEPT)).rowcount


def present(tx: Transaction) -> list[dict[str, Any]]:
    """Return every process that the ledger knows, `silent` for so many seconds."""
    now = tx.now()
    return [_view(row, now) for row in _rows(tx)]


def _rows(tx: Transaction) -> Sequence[Row[Any]]:
    return tx.connection.execute(select(processes).order_by(processes.c.role, processes.c.host, processes.c.pid)).all()


def _view(row: Row[Any], now: int) -> dict[str, Any]:
    return {
        "name": row.name,
        "role": row.role,
        "host": row.host,
        "pid": row.pid,
        "main_pid": row.main_pid,
        "version": row.version,
        "serves": row.serves.split(),
        "began_at": format_time(row.began_at),
        "seen_at": format_time(row.seen_at),
        "silent": max(now - row.seen_at, 0) / 1000,
    }
