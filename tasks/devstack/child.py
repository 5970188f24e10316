"""Child processes. Each has its own session, and ends when this process ends, even if this process is killed."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

#: The guard of a child process: a shell whose stdin is a pipe from this process. End of file means that this process is gone.
#: The guard then sends SIGTERM to the child, and SIGKILL to its process group if one of the group is alive after 5 seconds.
_GUARD = """\
read -r end_of_file
kill -s TERM "$0"
for second in 1 2 3 4 5; do sleep 1; kill -s 0 -- "-$0" || exit; done
kill -s KILL -- "-$0"
"""
_guards: dict[int, subprocess.Popen[bytes]] = {}  # by the child's process id


@dataclass(frozen=True, kw_only=True)
class Ended:
    """A child process that has ended.

    Attributes:
        name: the name of the process.
        code: its exit code; a negative number is the signal that killed it.
    """

    name: str
    code: int

    def __str__(self) -> str:
        if self.code >= 0:
            return f"{self.name} ended with exit code {self.code}"
        return f"{self.name} ended by {signal.Signals(-self.code).name}"


def free_port() -> int:
    """Return a loopback TCP port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def spawn(
    command: Sequence[str], *, env: Mapping[str, str], output: int | IO[bytes], cwd: Path | None = None
) -> subprocess.Popen[bytes]:
    """Start `command` without a terminal. Its stdout and stderr go to `output`."""
    process = subprocess.Popen(  # noqa: S603 - our own commands, never a shell
        command,
        env=dict(env),
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    _guards[process.pid] = subprocess.Popen(  # noqa: S603
        ["/bin/sh", "-c", _GUARD, str(process.pid)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C in the terminal must not end the guard
    )
    return process


def stop(processes: Iterable[subprocess.Popen[bytes]], *, grace: float) -> None:
    """End the processes and everything that they have started.

    SIGTERM goes to each process alone, because a Celery worker ends its pool itself when the running task is done. After `grace`
    seconds SIGKILL goes to the process groups. With a grace of 0 there is no SIGTERM.
    """
    stopping = list(processes)
    deadline = time.monotonic() + grace
    try:
        for process in stopping if grace else ():
            process.terminate()
        for process in stopping:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, deadline - time.monotonic()))
    finally:  # also if a second Ctrl-C interrupts the wait
        for process in stopping:
            _kill(process)


def _kill(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    if guard := _guards.pop(process.pid, None):
        with guard:
            guard.kill()
