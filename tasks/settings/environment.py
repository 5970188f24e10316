"""REDRIVE_… variables override redrive.toml: `REDRIVE_ROUTES__EMPLOYEES__URL` is `routes.employees.url`.

A variable with `__` must be a key. A variable without it may be something else, such as a secret that a key names.
Variables are upper case. So a name in the file matches without regard to case, and `_` matches `-`.
A name that is not in the file becomes lower case; a parameter keeps its spelling.
"""

from __future__ import annotations

from copy import deepcopy
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tasks.settings.keys import ANY_NAME, PREFIX, SEPARATOR, dotted, find, steps_below, suggestion, value_at

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from tasks.settings.keys import Key
    from tasks.settings.values import KeyPath

#: Names the file that is read.
CONFIG = "REDRIVE_CONFIG"
#: A variable that is at least so similar to a known one counts as misspelt. Kubernetes' REDRIVE_BROKER_PORT is less similar.
_SIMILAR = 0.9


@dataclass(frozen=True, kw_only=True)
class Input:
    """What file and environment say, before pydantic checks it."""

    #: All keys that redrive.toml may have.
    keys: Sequence[Key] = ()
    #: The environment. It also holds the secrets that keys such as `bearer_env` name.
    environ: Mapping[str, str] = field(default_factory=dict, repr=False)
    #: The file's name; None without a file.
    file: str | None = None
    #: The content of the file.
    in_file: Mapping[str, Any] = field(default_factory=dict, repr=False)
    #: The content of the file with the values of the environment, which are text.
    table: dict[str, Any] = field(default_factory=dict, repr=False)
    #: The variable of each value that the environment sets.
    variables: dict[KeyPath, str] = field(default_factory=dict)
    #: A line for each variable that is wrong.
    problems: list[str] = field(default_factory=list)

    def origin(self, path: KeyPath) -> str:
        """Return the variable's name, "file" or "default"."""
        in_file = value_at(self.in_file, path) is not None
        return self.variables.get(path) or ("file" if in_file else "default")


def read_input(in_file: Mapping[str, Any], environ: Mapping[str, str], keys: Sequence[Key], *, file: str | None) -> Input:
    """Return the file's values, overridden by the environment. An unknown variable with `__` is a problem."""
    found = Input(keys=keys, environ=environ, file=file, in_file=in_file, table=deepcopy(dict(in_file)))
    for variable in sorted(_own(environ)):
        parts = variable.removeprefix(PREFIX).split(SEPARATOR)
        path = _path(parts, keys, in_file)
        if find(keys, path):
            _set(found.table, path, environ[variable])
            found.variables[path] = variable
        elif len(parts) > 1:
            found.problems.append(_unknown(variable, path, keys))
    return found


def find_misspelt_variables(read: Input, named: Iterable[str]) -> Iterator[str]:
    """Yield a line for each variable without `__` that looks like one that Redrive reads; keys name those in `named`."""
    known = {CONFIG, *named, *(key.variable for key in read.keys if ANY_NAME not in key.path)}
    for variable in sorted(set(_own(read.environ)) - known):
        if SEPARATOR not in variable and (near := suggestion(variable, known, cutoff=_SIMILAR)):
            yield f"{variable}: Redrive reads no variable of this name; {near}"


def _own(environ: Mapping[str, str]) -> Iterator[str]:
    return (name for name in environ if name.startswith(PREFIX) and name != CONFIG)


def _path(parts: Sequence[str], keys: Sequence[Key], in_file: Mapping[str, Any]) -> KeyPath:
    path: KeyPath = ()
    for part in parts:
        allowed = steps_below(keys, path)
        if ANY_NAME not in allowed:
            names, otherwise = allowed, part.lower()
        else:
            table = value_at(in_file, path)
            names, otherwise = list(table) if isinstance(table, dict) else [], _new_name(path[-1], part)
        path = (*path, next((name for name in names if _folded(name) == _folded(part)), otherwise))
    return path


def _new_name(table: str, part: str) -> str:
    """Return the name that a variable means if the file has no such name."""
    match table:
        case "params" | "map" | "constants":
            return part
        case "headers":
            return part.replace("_", "-")
        case "predefined_queues":
            return part.lower().replace("_", "-")
        case _:
            return part.lower()


def _unknown(variable: str, path: KeyPath, keys: Sequence[Key]) -> str:
    if below := [step for step in steps_below(keys, path) if step != ANY_NAME]:
        return f"{variable}: {dotted(path)} is a table; set a key of it, such as {variable}{SEPARATOR}{below[0].upper()}"
    near = suggestion(variable, [key.variable for key in keys]) or "docs/reference/configuration.md lists all keys"
    return f"{variable}: Redrive has no key {dotted(path)}; {near}"


def _set(table: dict[str, Any], path: KeyPath, value: str) -> None:
    below: Any = table
    for step in path[:-1]:
        below = below.setdefault(step, {})
        if not isinstance(below, dict):  # the file is wrong there: pydantic refuses it
            return
    below[path[-1]] = value


def _folded(name: str) -> str:
    return name.lower().replace("-", "_")
