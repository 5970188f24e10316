"""Configuration: redrive.toml and the environment, read once and refused whole when something is wrong.

Nothing happens at import. This package is the only reader of the environment inside `tasks`.
"""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from tasks.dlq.errors import ConfigError
from tasks.settings.environment import CONFIG, misspelt, override
from tasks.settings.file import read_table
from tasks.settings.keys import keys_of
from tasks.settings.model import Settings
from tasks.settings.problems import one_line, problems_of

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["DEFAULT_FILE", "Settings", "assemble", "load", "settings"]

DEFAULT_FILE = Path("redrive.toml")


@lru_cache(maxsize=1)
def settings() -> Settings:
    """Return this process's settings, read at the first call. Tests forget them by `settings.cache_clear()`."""
    return load()


def load(path: Path | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """Read the configuration.

    Args:
        path: the file; without it $REDRIVE_CONFIG, and without that ./redrive.toml, which may be missing.
        environ: the environment; the process's own by default.

    Raises:
        ConfigError: with one line for each problem: file or variable, key, value unless secret, and what is allowed.
    """
    environ = os.environ if environ is None else environ
    if path is None and environ.get(CONFIG):
        path = Path(environ[CONFIG])
    if path is None and DEFAULT_FILE.exists():
        path = DEFAULT_FILE
    if path is None:
        return assemble({}, environ)
    return assemble(read_table(path.absolute()), environ, file=str(path.absolute()))


def assemble(table: Mapping[str, Any], environ: Mapping[str, str], *, file: str | None = None) -> Settings:
    """Make settings of a parsed redrive.toml and an environment; `file` is its name for messages.

    Raises:
        ConfigError: as for `load`.
    """
    keys = keys_of(Settings)
    read = override(table, environ, keys, file=file)
    problems = list(read.problems)
    try:
        made = Settings.model_validate(read.table)
        problems += misspelt(environ, keys, made.secret_variables)
    except ValidationError as error:
        problems += problems_of(error, keys, read)
    if problems:
        message = "\n".join(map(one_line, problems))
        raise ConfigError(message, hint="docs/reference/configuration.md has every key; redrive.example.toml is a start")
    made.remember(read, environ)
    return made
