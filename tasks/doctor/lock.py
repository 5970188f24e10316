"""Who holds the write lock of a ledger on SQLite, as far as Linux tells."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

#: The byte of the `-shm` file whose lock is that of the one writer: https://www.sqlite.org/walformat.html#locks
_WRITE_LOCK = 120


@dataclass(frozen=True, kw_only=True)
class Holder:
    """A process that holds the lock. `stopped`: by a signal or a debugger."""

    pid: int
    name: str
    stopped: bool


def holder(database: str) -> Holder | None:
    """Return who holds the write lock; None when nobody does, or it is not told: another system, or another container.

    Opens none of SQLite's files: to close one would give up the locks that this process has on it.
    """
    try:
        inode = Path(f"{database}-shm").stat().st_ino
        locks = Path("/proc/locks").read_text(encoding="ascii")
    except OSError:
        return None
    for line in locks.splitlines():
        pid = _writer(line.split(), inode)
        if pid:
            return _described(pid)
    return None


def _writer(lock: list[str], inode: int) -> int | None:
    """Return the pid of a line of /proc/locks, `1: POSIX ADVISORY WRITE 4711 fd:01:56789 120 120`, if it is that lock."""
    if len(lock) != 8 or lock[3] != "WRITE":  # noqa: PLR2004 - one that waits has an arrow as well
        return None
    *_, pid, where, start, end = lock
    held = int(start) <= _WRITE_LOCK and (end == "EOF" or int(end) >= _WRITE_LOCK)
    return int(pid) if held and where.rpartition(":")[2] == str(inode) else None


def _described(pid: int) -> Holder | None:
    try:
        name, _, state = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace").partition("(")[2].rpartition(") ")
    except OSError:  # it has just ended; or its number is that of another container
        return None
    return Holder(pid=pid, name=name, stopped=state[:1] in {"T", "t"})


def advice(database: str, found: Holder | None) -> tuple[str, str]:
    """Return what to say of a lock that is held for long, and what to do next."""
    if found is None:
        hint = f"find it by: fuser -v {database}, or lsof {database}; it may have been stopped (SIGSTOP) in a transaction"
        return "another process holds the write lock", hint
    who = f"process {found.pid} ({found.name})"
    if found.stopped:
        hint = f"let it go on: kill -CONT {found.pid}, or end it: kill -KILL {found.pid}; what it did not commit is undone"
        return f"{who} holds the write lock, and was stopped by a signal", hint
    hint = f"see what process {found.pid} does, and wait for it; or end it: what it did not commit is undone"
    return f"{who} holds the write lock", hint
