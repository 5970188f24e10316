"""Checks and creates the state directory. Every failure is a ConfigError."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from tasks.dlq.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

_HINT = "REDRIVE_STATE_DIR, or state_dir in redrive.toml, names another directory"


def check(directory: Path) -> None:
    """Refuse a path that is not a directory; it may be missing. Raises ConfigError."""
    if os.path.lexists(directory) and not os.path.isdir(directory):  # noqa: PTH112 - Path.is_dir raises without permission
        raise ConfigError(f"the state directory {directory.absolute()} is not a directory", hint=_HINT)


def make(directory: Path) -> None:
    """Create the directory if it is missing. Only this user may read it: it holds the bodies of failures. Raises ConfigError."""
    check(directory)
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"the state directory {directory.absolute()} cannot be created: {error.strerror}", hint=_HINT) from None
    if not os.access(directory, os.W_OK | os.X_OK):
        raise ConfigError(f"the state directory {directory.absolute()} is not writable", hint=_HINT)
