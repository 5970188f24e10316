"""The configuration: redrive.toml and the environment. A wrong one is refused as a whole, with all problems at once.

Importing this package reads nothing. No other module of `tasks` reads the environment.
"""

from __future__ import annotations

import os
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from tasks.dlq.errors import ConfigError
from tasks.dlq.text import escape
from tasks.settings.environment import CONFIG, find_misspelt_variables, read_input
from tasks.settings.file import read_table
from tasks.settings.keys import keys_of
from tasks.settings.model import Settings
from tasks.settings.problems import describe_problems

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["DEFAULT_FILE", "Settings", "assemble", "load", "settings"]

DEFAULT_FILE = Path("redrive.toml")


@lru_cache(maxsize=1)
def settings() -> Settings:
    """Return the settings of this process. The first call reads them; `settings.cache_clear()` forgets them, for tests."""
    return load()


def load(path: Path | None = None, environ: Mapping[str, str] | None = None) -> Settings:
    """Read the configuration.

    Args:
        path: the file. Default: the file that $REDRIVE_CONFIG names, else ./redrive.toml if it exists.
        environ: the environment. Default: that of the process.

    Raises:
        ConfigError: one line for each problem: file or variable, key, the value unless it may be secret, what is allowed.
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
    """Make settings from a parsed redrive.toml and an environment.

    Args:
        table: the content of the file.
        environ: the environment.
        file: the file's name for messages.

    Raises:
        ConfigError: as for `load`.
    """
    read = read_input(table, environ, keys_of(Settings), file=file)
    problems = list(read.problems)
    try:
        made = Settings.model_validate(read.table)
        problems += find_misspelt_variables(read, made.secret_variables)
    except ValidationError as error:
        problems += describe_problems(error, read)
    if problems:
        message = "\n".join(map(escape, problems))  # a line end in a variable's name could forge a line
        raise ConfigError(message, hint="docs/reference/configuration.md has every key; redrive.example.toml is a start")
    made.remember(read)
    return made
