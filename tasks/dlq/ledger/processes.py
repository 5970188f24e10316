"""The running processes: each has a row, with a heartbeat by the database's clock, and removes it when it ends."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, select

from tasks.dlq.ledger.schema import processes
from tasks.dlq.text import format_time

if TYPE_CHECKING:
    from tasks.dlq.ledger.engine import Transaction
    from tasks.dlq.process import Process

#: Milliseconds for which the row of a process that did not end cleanly is kept: people may still ask about it.
_KEPT = 3_600_000


def record_heartbeat(tx: Transaction, process: Process) -> None:
    """Write the heartbeat of a process."""
    now = tx.now()
    row = {**asdict(process), "name": process.name, "serves": " ".join(process.serves)}
    upsert = tx.insert(processes).on_conflict_do_update(index_elements=["name"], set_={**row, "seen_at": now})
    tx.connection.execute(upsert, {**row, "began_at": now, "seen_at": now})


def remove_process(tx: Transaction, process: Process) -> None:
    """Remove the row of a process that ends."""
    tx.connection.execute(delete(processes).where(processes.c.name == process.name))


def remove_old_processes(tx: Transaction) -> int:
    """Remove the rows of processes without a heartbeat for an hour; return how many."""
    return tx.connection.execute(delete(processes).where(processes.c.seen_at < tx.now() - _KEPT)).rowcount


def list_processes(tx: Transaction) -> list[dict[str, Any]]:
    """Return every process; `silent` is the number of seconds since its last heartbeat."""
    now = tx.now()
    ordered = select(processes).order_by(processes.c.role, processes.c.host, processes.c.pid)
    return [
        {
            **row,
            "serves": row["serves"].split(),
            "began_at": format_time(row["began_at"]),
            "seen_at": format_time(row["seen_at"]),
            "silent": max(now - row["seen_at"], 0) / 1000,
        }
        for row in tx.connection.execute(ordered).mappings()
    ]
