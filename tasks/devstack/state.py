"""The state directory belongs to one `redrive up` at a time."""

from __future__ import annotations

import fcntl
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tasks.dlq.errors import Refused

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@contextmanager
def held(directory: Path) -> Iterator[None]:
    """Hold the directory. The lock ends with this process, however it ends. Raises Refused."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        lock = (directory / "up.lock").open("a+")
    except OSError as error:
        hint = "REDRIVE_STATE_DIR names another directory"
        raise Refused(f"the state directory {directory} cannot be used: {error.strerror}", hint=hint) from error
    with lock:
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
