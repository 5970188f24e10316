"""Ends child processes when this process is gone, however it went: even SIGKILL leaves nobody behind.

This file is both ends of a pipe. `tie` starts it once as a process of its own (the guard) and tells it which process groups
there are; end of file on the pipe means that the parent is gone. The guard imports the standard library only.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import subprocess
import sys
import threading
import time

#: Seconds that orphaned groups get to end by themselves before they are killed.
GRACE = 5.0

_lock = threading.Lock()
_guards: dict[int, subprocess.Popen[str]] = {}  # by process id: a forked child needs one of its own


def tie(group: int) -> None:
    """End the process group `group` when this process is gone. Its leader has the same id."""
    _tell(f"+{group}\n")


def untie(group: int) -> None:
    """Forget the process group: it has ended, and its id may be given to another."""
    _tell(f"-{group}\n")


def _tell(line: str) -> None:
    with _lock:
        guard = _guards.get(os.getpid())
        if guard is None or guard.poll() is not None:
            guard = subprocess.Popen(  # noqa: S603 - this very file
                [sys.executable, "-I", "-S", __file__],
                stdin=subprocess.PIPE,
                text=True,
                start_new_session=True,  # Ctrl-C in the terminal is not for the guard
            )
            _guards[os.getpid()] = guard
            atexit.register(_release, guard)
        assert guard.stdin is not None  # noqa: S101 - it was opened with a pipe
        guard.stdin.write(line)
        guard.stdin.flush()


def _release(guard: subprocess.Popen[str]) -> None:
    if _guards.get(os.getpid()) is guard:
        guard.communicate()


def main() -> None:
    """Be the guard: read "+group" and "-group" lines until the parent is gone, then end the groups that are left."""
    groups: set[int] = set()
    for line in sys.stdin:
        group = int(line[1:])
        groups.add(group) if line[0] == "+" else groups.discard(group)
    for group in groups:
        with contextlib.suppress(ProcessLookupError):
            os.kill(group, signal.SIGTERM)  # to the leader alone: a Celery worker ends its pool itself
    patience = time.monotonic() + GRACE
    while any(_alive(group) for group in groups) and time.monotonic() < patience:
        time.sleep(0.05)
    for group in groups:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(group, signal.SIGKILL)


def _alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


if __name__ == "__main__":
    main()
