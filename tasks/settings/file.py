"""Reads redrive.toml from disk. Every failure is a ConfigError."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING, Any

from tasks.dlq.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

_MAX_BYTES = 1 << 20


def read_table(path: Path) -> dict[str, Any]:
    """Return the content of a TOML file. A byte order mark is allowed.

    Raises:
        ConfigError: the file is missing, a directory, unreadable, too large, not UTF-8 or not TOML.
    """
    try:
        if path.is_dir():
            raise ConfigError(f"{path} is a directory", hint="name the file itself, such as redrive.toml")
        with path.open("rb") as file:
            content = file.read(_MAX_BYTES + 1)
    except FileNotFoundError:
        hint = "set REDRIVE_CONFIG to the file, or unset it to read ./redrive.toml"
        raise ConfigError(f"{path} does not exist", hint=hint) from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        reason = getattr(error, "strerror", None) or error
        raise ConfigError(f"{path} cannot be read: {reason}", hint="the user that runs Redrive must be able to read it") from None
    if len(content) > _MAX_BYTES:
        raise ConfigError(f"{path} is larger than {_MAX_BYTES} bytes", hint="name a redrive.toml")
    try:
        return tomllib.loads(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        column = error.start - content.rfind(b"\n", 0, error.start)
        raise ConfigError(f"{path} is not UTF-8 at line {line}, column {column}", hint="save it as UTF-8") from None
    except (ValueError, RecursionError) as error:  # ValueError: TOMLDecodeError, or a number of thousands of digits
        reason = error if isinstance(error, tomllib.TOMLDecodeError) else "a number is too long, or tables are nested too deeply"
        raise ConfigError(f"{path} is not TOML: {reason}", hint="redrive.example.toml shows every key") from None
