"""A small disk of the run's own, and a clock of the run's own: where this machine has what that takes."""

from __future__ import annotations

import ctypes
import os
import shutil
from contextlib import suppress
from pathlib import Path

_NEW_MOUNTS, _NEW_USER = 0x00020000, 0x10000000  # <sched.h>
_RECURSIVE, _PRIVATE = 1 << 14, 1 << 18  # <sys/mount.h>
_LIBRARIES = ("/usr/lib", "/usr/lib64", "/usr/local/lib", "/opt/homebrew/lib")


def small_disk(where: Path, *, megabytes: int = 24) -> str:
    """Put a small file system at `where`, seen by this process and what it starts, and gone with them.

    To be called while this process has one thread. Returns why not; empty when it is there.
    """
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        as_root = os.geteuid() == 0
        user, group = os.geteuid(), os.getegid()
        _demand(libc.unshare(_NEW_MOUNTS | (0 if as_root else _NEW_USER)))
        if not as_root:
            for name, text in (("setgroups", "deny"), ("uid_map", f"{user} {user} 1"), ("gid_map", f"{group} {group} 1")):
                Path("/proc/self", name).write_text(text)
        _demand(libc.mount(b"none", b"/", None, _RECURSIVE | _PRIVATE, None))
        _demand(libc.mount(b"torture", str(where).encode(), b"tmpfs", 0, f"size={megabytes}m".encode()))
    except (OSError, AttributeError) as error:
        return f"no small disk can be mounted here ({error})"
    return ""


def take_off(where: Path) -> None:
    """Take off what `small_disk` put there, if it did."""
    with suppress(AttributeError):
        ctypes.CDLL(None).umount2(str(where).encode(), 2)  # MNT_DETACH


def _demand(result: int) -> None:
    if result:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def fill(folder: Path) -> Path:
    """Leave no byte free on the folder's disk. Return the file that does it: remove it to make room."""
    filler = folder / "filler"
    with filler.open("wb") as file, suppress(OSError):
        size = shutil.disk_usage(folder).free
        while size > 0:
            file.write(b"\0" * min(size, 1 << 20))
            file.flush()
    with filler.open("ab", buffering=0) as file, suppress(OSError):
        while file.write(b"\0" * 512):
            pass
    return filler


def faketime_library() -> Path | None:
    """Return libfaketime for programs with threads (https://github.com/wolfcw/libfaketime); None when it is not installed."""
    for folder in _LIBRARIES:
        for found in (*Path(folder).glob("faketime/libfaketimeMT.so.1"), *Path(folder).glob("*/faketime/libfaketimeMT.so.1")):
            return found
    return None


class Clock:
    """The clock of the day that the processes see: ours, moved by whole hours."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "clock"
        self._library = faketime_library()
        self._hours = 0
        self._most = 0
        self.move(0)

    @property
    def is_there(self) -> bool:
        return self._library is not None

    @property
    def env(self) -> dict[str, str]:
        if self._library is None:
            return {}
        return {
            "LD_PRELOAD": str(self._library),
            "FAKETIME_TIMESTAMP_FILE": str(self._file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_DONT_RESET": "1",
            "FAKETIME_DISABLE_SHM": "1",
        }

    def move(self, hours: int) -> bool:
        """Move it; return whether anybody sees that."""
        self._hours += hours
        self._most = max(self._most, self._hours)
        made = self._file.with_suffix(".new")
        made.write_text(f"{self._hours * 3600:+d}")
        made.replace(self._file)
        return self.is_there

    def move_past_all(self) -> None:
        """Leave nothing that Redrive wrote in the future: it would be due there."""
        self.move(self._most - self._hours)
