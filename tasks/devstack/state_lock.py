"""A lock on the state directory: only one `redrive up` uses it at a time."""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tasks.dlq.errors import Refused
from tasks.settings.directory import make

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def lock_state_directory(directory: Path) -> Iterator[None]:
    """Create the directory if it is missing, and lock it. The lock ends with this process at the latest.

    Raises:
        Refused: another process holds the lock.
        ConfigError: the directory cannot be used.
    """
    make(directory)
    with (directory / "up.lock").open("a+") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.seek(0)
            message = f"another `redrive up` runs in {directory}: process {lock.read().strip()}"
            raise Refused(message, hint="stop it, or name another directory in REDRIVE_STATE_DIR") from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        yield
