"""REDRIVE_… variables as overrides of redrive.toml: `REDRIVE_ROUTES__EMPLOYEES__URL` is `routes.employees.url`.

A variable with `__` is a key or a mistake; one without may be anything (a secret that a key names, a container platform's
own), and is a key only when it is known. Variables are upper case, so a person's names are found again without case, and
`_` for `-`, among those in the file. A name that only the environment has becomes lower case; a parameter stays as it is.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tasks.settings.keys import NAME, PREFIX, SEPARATOR, Key, Steps, dotted, find, steps_below, suggestion, value_at

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

#: Where the file is, not what stands in it.
CONFIG = "REDRIVE_CONFIG"


@dataclass(frozen=True, kw_only=True)
class Overridden:
    """The file's table with the environment's values (as text) in it, the variable of each such path, and what is wrong."""

    table: dict[str, Any]
    variables: dict[Steps, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)


def overridden(in_file: Mapping[str, Any], environ: Mapping[str, str], keys: Sequence[Key]) -> Overridden:
    """Return what stands in the file with what `environ` sets; unknown variables with `__` are problems."""
    found = Overridden(table=deepcopy(dict(in_file)))
    for variable in sorted(name for name in environ if name.startswith(PREFIX) and name != CONFIG):
        parts = variable.removeprefix(PREFIX).split(SEPARATOR)
        path = _path(parts, keys, in_file)
        if find(keys, path):
            _set(found.table, path, environ[variable])
            found.variables[path] = variable
        elif len(parts) > 1:
            found.problems.append(_unknown(variable, path, keys))
    return found


def _path(parts: Sequence[str], keys: Sequence[Key], file_table: Mapping[str, Any]) -> Steps:
    path: Steps = ()
    for part in parts:
        allowed = steps_below(keys, path)
        if NAME not in allowed:
            names, otherwise = allowed, part.lower()
        else:
            names = _names_at(file_table, path)
            otherwise = _new_name(path[-1], part)
        path = (*path, next((name for name in names if _folded(name) == _folded(part)), otherwise))
    return path


def _new_name(table: str, part: str) -> str:
    """Return the name that a variable stands for when the file has none like it."""
    match table:
        case "params" | "map":
            return part
        case "headers":
            return part.replace("_", "-")
        case "predefined_queues":
            return part.lower().replace("_", "-")
        case _:
            return part.lower()


def _unknown(variable: str, path: Steps, keys: Sequence[Key]) -> str:
    if below := [step for step in steps_below(keys, path) if step != NAME]:
        return f"{variable}: {dotted(path)} is a table; set a key of it, such as {variable}{SEPARATOR}{below[0].upper()}"
    known = [key.variable for key in keys]
    near = suggestion(variable, known) or "docs/reference/configuration.md has them all"
    return f"{variable}: Redrive has no key {dotted(path)}; {near}"


def _names_at(table: Mapping[str, Any], path: Steps) -> list[str]:
    try:
        names = value_at(table, path)
    except KeyError:
        return []
    return list(names) if isinstance(names, dict) else []


def _set(table: dict[str, Any], path: Steps, value: str) -> None:
    below: Any = table
    for step in path[:-1]:
        below = below.setdefault(step, {})
        if not isinstance(below, dict):  # the file is wrong there, and is told so
            return
    below[path[-1]] = value


def _folded(name: str) -> str:
    return name.lower().replace("-", "_")
