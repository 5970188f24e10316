"""Messages about a wrong configuration: where, the value unless it may be a secret, and what is allowed."""

from __future__ import annotations

import json
from itertools import takewhile
from typing import TYPE_CHECKING

from tasks.settings.keys import ANY_NAME, allowed_name, dotted, find, steps_below, suggestion, value_at, variable_of
from tasks.settings.values import Refusal

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pydantic import ValidationError
    from pydantic_core import ErrorDetails

    from tasks.settings.environment import Input
    from tasks.settings.values import KeyPath

_MAX_ECHO = 80


def describe_problems(error: ValidationError, read: Input) -> list[str]:
    """Return one line for each problem that pydantic found."""
    found = [
        _line(path, clause, read)
        for detail in error.errors(include_url=False, include_input=False)
        for path, clause in _clauses(detail, read)
    ]
    return list(dict.fromkeys(found))


def _clauses(detail: ErrorDetails, read: Input) -> Iterator[tuple[KeyPath, str]]:
    path = _path(detail["loc"])
    if detail["type"].startswith("union_tag_"):  # pydantic chooses the model of a source by its kind
        path = (*path, "kind")
    key, cause = find(read.keys, path), detail.get("ctx", {}).get("error")
    is_name = detail["loc"][-1:] == ("[key]",)
    if isinstance(cause, Refusal):
        yield from (((*path, *below), f"{'the name ' if is_name else ''}{clause}") for below, clause in cause.found)
    elif is_name:
        yield path, f"the name must be {allowed_name(read.keys, path)}"
    elif detail["type"] in {"missing", "union_tag_not_found"}:
        yield path, f"is missing: must be {key.display.allowed}" if key else "is missing"
    elif detail["type"] == "extra_forbidden":
        yield path, _unknown(path, read)
    elif key:
        reason = f": {cause}" if cause and str(cause) else ""
        yield path, f"must be {key.display.allowed}{reason}"
    else:
        below = ", ".join(step for step in steps_below(read.keys, path) if step != ANY_NAME)
        yield path, f"must be a table{f' with {below}' if below else ''}"


def _path(location: Sequence[str | int]) -> KeyPath:
    """Return the path in the file. pydantic's path also has the kind of a source, [key] for a name, and places in lists."""
    path = tuple(str(step) for step in takewhile(lambda step: isinstance(step, str), location))
    if path[:1] == ("sources",):
        path = path[:2] + path[3:]
    return path[:-1] if path[-1:] == ("[key]",) else path


def _unknown(path: KeyPath, read: Input) -> str:
    known = steps_below(read.keys, path[:-1])
    if path[-1] in known:  # of another kind of source
        return f"is not a key of a source of kind {json.dumps(value_at(read.table, (*path[:-1], 'kind')))}"
    near = suggestion(path[-1], known) or f"known here: {', '.join(sorted(known))}"
    return f"is not a key of Redrive; {near}"


def _line(path: KeyPath, clause: str, read: Input) -> str:
    file, table, variable = read.file or "redrive.toml", path[:-1], read.variables.get(path)
    if clause.startswith("is missing") and (only := _only_variable(table, read)):
        near = suggestion(table[-1], value_at(read.in_file, table[:-1]) or ())
        return f"{only}: {file} has no {dotted(table)}{near and f' ({near})'}; a new one also needs {variable_of(path)}"
    where = f"{variable} ({dotted(path)})" if variable else f"{file}: {dotted(path) or 'the file'}"
    if clause.startswith("is "):
        return f"{where} {clause}"
    value = _echo(path, read)
    return f"{where} is {value}: {clause}" if value else f"{where}: {clause}"


def _only_variable(table: KeyPath, read: Input) -> str:
    """Return a variable that sets a key of `table`, if the file has no such table; else an empty text."""
    if value_at(read.in_file, table) is not None:
        return ""
    return next((variable for path, variable in read.variables.items() if path[: len(table)] == table), "")


def _echo(path: KeyPath, read: Input) -> str:
    """Return the value at a path for a message; an empty text for a table, and if the value may be a secret."""
    key, value = find(read.keys, path), value_at(read.table, path)
    if key is None or key.display.secret or value is None or isinstance(value, dict):
        return ""
    text = json.dumps(value, default=str)
    return text if len(text) <= _MAX_ECHO else text[: _MAX_ECHO - 1] + "…"
