"""Liveness files: the main loop of each process sets the time of its own file every few seconds.

A supervisor on the same machine looks at these times. To set the time of an existing file takes no disk space, no file
descriptor and no ledger. So an old time means that the loop itself hangs. The files are in `health` in the state directory:
`role@host:pid`.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from dataclasses import dataclass
from socket import gethostname
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from pathlib import Path

log = structlog.get_logger("redrive.liveness")

#: Seconds after which a file counts as left behind, even if a process has its id: the system gives ids out again.
_KEPT = 3600.0


@dataclass(frozen=True, kw_only=True)
class LocalProcess:
    """A process on this machine, as its liveness file shows it."""

    pid: int
    #: Seconds since its main loop set the time; negative after the clock was set back.
    age: float

    def is_fresh(self, within: float) -> bool:
        """Tell whether the time was set within so many seconds."""
        return abs(self.age) <= within


class LivenessFile:
    """The liveness file of a process on this machine, by default of this process."""

    def __init__(self, state_dir: Path, role: str, pid: int | None = None) -> None:
        self.path = directory_of(state_dir) / f"{role}@{gethostname()}:{pid or os.getpid()}"
        self._failed = False

    def touch(self) -> None:
        """Set the time to now. Never raises; logs the first failure and the first success after it."""
        try:
            self._touch()
        except OSError as error:
            if not self._failed:
                log.warning(
                    "liveness_lost", file=str(self.path), error=str(error), hint="health checks see this process as stuck"
                )
            self._failed = True
        else:
            if self._failed:
                log.info("liveness_restored", file=str(self.path))
            self._failed = False

    def age(self) -> float | None:
        """Return the seconds since the time was set; None if there is no file."""
        try:
            return time.time() - self.path.stat().st_mtime
        except OSError:
            return None

    def remove(self) -> None:
        """Remove the file, if that is possible."""
        with suppress(OSError):
            self.path.unlink()

    def _touch(self) -> None:
        try:
            os.utime(self.path)
        except FileNotFoundError:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            _remove_old_files(self.path.parent)
            self.path.touch(mode=0o600)


def find_processes(state_dir: Path, role: str) -> list[LocalProcess]:
    """Return the running processes of a role on this machine, ordered by id."""
    names = [path.name.rpartition(":")[2] for path in directory_of(state_dir).glob(f"{role}@{gethostname()}:*")]
    ages = {pid: LivenessFile(state_dir, role, pid).age() for pid in map(int, filter(str.isdecimal, names)) if is_running(pid)}
    return [LocalProcess(pid=pid, age=age) for pid, age in sorted(ages.items()) if age is not None and abs(age) <= _KEPT]


def directory_of(state_dir: Path) -> Path:
    """Return the directory of the liveness files."""
    return state_dir / "health"


def _remove_old_files(directory: Path) -> None:
    for path in directory.glob("*@*:*"):
        with suppress(OSError):
            if time.time() - path.stat().st_mtime > _KEPT:
                path.unlink()


def is_running(pid: int) -> bool:
    """Tell whether there is a process with this id."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return pid > 0  # other numbers mean a group of processes
