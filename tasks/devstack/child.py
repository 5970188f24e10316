"""Child processes: each in a process group of its own, on the leash, without a terminal."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import time
from typing import IO, TYPE_CHECKING

from tasks.devstack import leash

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path


def free_port() -> int:
    """Return a loopback TCP port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def spawn(
    command: Sequence[str], *, env: Mapping[str, str], output: int | IO[bytes], cwd: Path | None = None
) -> subprocess.Popen[bytes]:
    """Start `command`, with stdout and stderr to `output`. It ends with this process at the latest."""
    process = subprocess.Popen(  # noqa: S603 - our own commands, never a shell
        command,
        env=dict(env),
        cwd=cwd,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    leash.tie(process.pid)
    return process


def stop(processes: Iterable[subprocess.Popen[bytes]], *, grace: float) -> None:
    """End the processes and all that they started: SIGTERM, and SIGKILL for what is left after `grace` seconds.

    SIGTERM goes to the process alone, because a Celery worker ends its pool itself once the running task is done; SIGKILL goes
    to the whole group.
    """
    ending = list(processes)
    patience = time.monotonic() + grace
    try:
        for process in ending if grace else ():
            process.terminate()
        for process in ending:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, patience - time.monotonic()))
    finally:  # also when somebody is in a hurry and interrupts
        for process in ending:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            leash.untie(process.pid)
