"""The pulse: a file whose time a process's main loop sets every few seconds, for a supervisor on the same machine.

Setting the time of a file that is there takes neither room on the disk nor a file descriptor, and no ledger: a pulse that stops
means that the loop itself stands still. The files lie in `health` in the state directory, `role@host:pid` each.
"""

from __future__ import annotations

import os
import re
import socket
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import quote

import structlog

from tasks.dlq.process import PULSE

if TYPE_CHECKING:
    from pathlib import Path

log = structlog.get_logger("redrive.pulse")

_NAME = re.compile(r"(?P<role>[a-z]+)@(?P<host>[^:]+):(?P<pid>[0-9]{1,10})", re.ASCII)


def here() -> str:
    """Return this machine's name."""
    return socket.gethostname()


@dataclass(frozen=True, kw_only=True)
class Seen:
    """The pulse of a process that is there: the seconds since it was set last."""

    pid: int
    age: float

    def is_fresh(self, within: float) -> bool:
        """Tell whether it was set within so many seconds. One of the future is not: the clock was put back."""
        return abs(self.age) <= within


class Pulse:
    """The pulse of this process."""

    def __init__(self, state_dir: Path, role: str) -> None:
        self._folder = folder_of(state_dir)
        self._pid = os.getpid()
        self.file = self._folder / f"{role}@{quote(here(), safe='')}:{self._pid}"
        self._ill = False
        self._due = 0.0

    def beat(self) -> None:
        """Set the time now, unless it was set a moment ago. Never raises; a change is logged, once."""
        now = time.monotonic()
        if now < self._due:
            return
        self._due = now + PULSE / 2
        try:
            self._set()
        except OSError as error:
            if not self._ill:
                log.warning("no pulse: this process counts as stuck", file=str(self.file), error=str(error))
            self._ill = True
            return
        if self._ill:
            log.info("the pulse is back")
        self._ill = False

    def end(self) -> None:
        """Take the file along; what a fork of this process calls does nothing."""
        if os.getpid() == self._pid:
            _remove(self.file)

    def _set(self) -> None:
        try:
            os.utime(self.file)
        except FileNotFoundError:
            self._folder.mkdir(parents=True, exist_ok=True)
            tidy(self._folder)
            self.file.touch()


def seen(state_dir: Path, role: str) -> list[Seen]:
    """Return the pulses of the processes of a role that run on this machine."""
    now = time.time()
    found = []
    for file, known in _here(folder_of(state_dir)):
        if known["role"] == role and runs(int(known["pid"])) and (age := _age(file, now)) is not None:
            found.append(Seen(pid=int(known["pid"]), age=age))
    return sorted(found, key=lambda each: each.pid)


def age(state_dir: Path, role: str, pid: int) -> float | None:
    """Return the seconds since the process on this machine set its pulse; None when it has none."""
    return _age(folder_of(state_dir) / f"{role}@{quote(here(), safe='')}:{pid}", time.time())


def tidy(folder: Path) -> None:
    """Remove what processes of this machine left behind that did not end by themselves."""
    for file, known in _here(folder):
        if not runs(int(known["pid"])):
            _remove(file)


def folder_of(state_dir: Path) -> Path:
    """Return where the pulses are."""
    return state_dir / "health"


def runs(pid: int) -> bool:
    """Tell whether there is a process of this id."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def _here(folder: Path) -> list[tuple[Path, re.Match[str]]]:
    try:
        files = list(folder.iterdir())
    except OSError:
        return []
    known = ((file, _NAME.fullmatch(file.name)) for file in files)
    mine = quote(here(), safe="")
    return [(file, match) for file, match in known if match and match["host"] == mine]


def _age(file: Path, now: float) -> float | None:
    try:
        return now - file.stat().st_mtime
    except OSError:
        return None


def _remove(file: Path) -> None:
    try:
        file.unlink(missing_ok=True)
    except OSError as error:
        log.debug("a pulse stays behind", file=str(file), error=str(error))
