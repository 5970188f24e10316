"""The pulse: a file whose time a process's main loop sets every few seconds, for a supervisor on the same machine.

Setting the time of a file that is there takes neither room on the disk nor a file descriptor, and no ledger: a pulse that stops
means that the loop itself stands still. The files lie in `health` in the state directory, `role@host:pid:began` each. When a
process began, in ticks since the machine did (/proc/PID/stat, see proc(5)), tells it from another that gets its id later.
"""

from __future__ import annotations

import os
import re
import socket
import stat
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import structlog

from tasks.dlq.process import PULSE

log = structlog.get_logger("redrive.pulse")

_NAME = re.compile(r"(?P<role>[a-z]+)@(?P<host>[^:]+):(?P<pid>[1-9][0-9]{0,9})(?::(?P<began>[0-9]+))?", re.ASCII)


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
        self.file = self._folder / _name(role, self._pid)
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
            os.utime(self.file, follow_symlinks=False)
        except FileNotFoundError:
            self._folder.mkdir(parents=True, exist_ok=True)
            tidy(self._folder)
            os.close(os.open(self.file, os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600))


def seen(state_dir: Path, role: str) -> list[Seen]:
    """Return the pulses of the processes of a role that run on this machine."""
    now = time.time()
    found = []
    for file, known in _here(folder_of(state_dir)):
        if known["role"] == role and _is_there(known) and (age := _age(file, now)) is not None:
            found.append(Seen(pid=int(known["pid"]), age=age))
    return sorted(found, key=lambda each: each.pid)


def age(state_dir: Path, role: str, pid: int) -> float | None:
    """Return the seconds since the process on this machine set its pulse; None when it has none."""
    return _age(folder_of(state_dir) / _name(role, pid), time.time())


def tidy(folder: Path) -> None:
    """Remove what processes of this machine left behind that did not end by themselves."""
    for file, known in _here(folder):
        if not _is_there(known):
            _remove(file)


def folder_of(state_dir: Path) -> Path:
    """Return where the pulses are."""
    return state_dir / "health"


def runs(pid: int) -> bool:
    """Tell whether there is a process of this id."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return pid > 0  # else it is a group


def _name(role: str, pid: int) -> str:
    began = _began(pid)
    return f"{role}@{quote(here(), safe='')}:{pid}" + (f":{began}" if began else "")


def _is_there(known: re.Match[str]) -> bool:
    """Tell whether the process of a pulse runs, and not just another of its id."""
    return runs(int(known["pid"])) and _began(int(known["pid"])) in {None, known["began"]}


def _began(pid: int) -> str | None:
    """Return when a process began; None where the system does not say."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()[19]
    except (OSError, IndexError):
        return None


def _here(folder: Path) -> list[tuple[Path, re.Match[str]]]:
    try:
        files = list(folder.iterdir())
    except OSError:
        return []
    known = ((file, _NAME.fullmatch(file.name)) for file in files)
    mine = quote(here(), safe="")
    return [(file, match) for file, match in known if match and match["host"] == mine]


def _age(file: Path, now: float) -> float | None:
    """Return the seconds since a pulse was set; None when it is not there, or no file of its own."""
    try:
        found = file.lstat()
    except OSError:
        return None
    return now - found.st_mtime if stat.S_ISREG(found.st_mode) else None


def _remove(file: Path) -> None:
    try:
        file.unlink(missing_ok=True)
    except OSError as error:
        log.debug("a pulse stays behind", file=str(file), error=str(error))
