"""What pydantic found wrong, as lines for people: where, the value unless secret, and what is allowed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tasks.settings.keys import NAME, Key, Steps, dotted, find, steps_below, suggestion, value_at
from tasks.settings.sections import Conflict

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from pydantic import ValidationError
    from pydantic_core import ErrorDetails

    from tasks.settings.description import Origins

_NAMED = ("routes", "sources")
_ANY_ROUTE = {"url": "https://company.com/"}


def problems_of(error: ValidationError, keys: Sequence[Key], table: Mapping[str, Any], origins: Origins) -> list[str]:
    """Return one line for each problem; `table` is what was validated, the environment's values included."""
    return [
        _line(path, clause, keys, table, origins)
        for detail in error.errors(include_url=False, include_input=False)
        for path, clause in _clauses(detail, keys, table)
    ]


def one_line(problem: str) -> str:
    """Return the problem with what does not print as its escape: a variable's name may hold a line end, and forge a line."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in problem)


def without(error: ValidationError, table: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return `table` without what an error is about, to tell whether the other sources fit; None where nobody can know.

    A route that is wrong is a route all the same: it keeps its name, and the sources that take it are left out.
    """
    wrong = {_path(detail["loc"], table, ends_there=True)[:2] for detail in error.errors(include_url=False, include_input=False)}
    if any(path[:1] in {(), ("broker",)} or path in {("sources",), ("routes",)} for path in wrong):
        return None
    kept = {name: value for name, value in table.items() if (name,) not in {path[:1] for path in wrong} or name in _NAMED}
    routes = {path[1] for path in wrong if path[0] == "routes"}
    kept["routes"] = {name: _ANY_ROUTE if name in routes else each for name, each in table.get("routes", {}).items()}
    kept["sources"] = {
        name: each
        for name, each in table.get("sources", {}).items()
        if ("sources", name) not in wrong and not routes.intersection(_routes_of(each))
    }
    # What a slice needs follows from all routes.
    kept["broker"] = {name: value for name, value in table.get("broker", {}).items() if name != "visibility_timeout"}
    return kept


def _routes_of(source: Mapping[str, Any]) -> list[Any]:
    return [source.get("route"), *(choice.get("route") for choice in source.get("choose", {}).values())]


def _clauses(detail: ErrorDetails, keys: Sequence[Key], table: Mapping[str, Any]) -> Iterator[tuple[Steps, str]]:
    cause = detail.get("ctx", {}).get("error")
    path = _path(detail["loc"], table, ends_there=isinstance(cause, Conflict))
    if isinstance(cause, Conflict):
        yield from (((*path, *below), clause) for below, clause in cause.found)
    elif isinstance(cause, ValueError):
        yield path, ("the name " if detail["loc"][-1] == "[key]" else "") + str(cause)
    elif detail["type"] == "missing":
        key = find(keys, path)
        yield path, f"is missing: must be {key.rule.allowed}" if key else "is missing"
    elif detail["type"] == "extra_forbidden":
        known = steps_below(keys, path[:-1])
        near = suggestion(path[-1], known) or f"known here: {', '.join(sorted(known))}"
        yield path, f"is no key that Redrive knows; {near}"
    else:  # a value where a table belongs: all values have rules, and those raise ValueError
        below = [step for step in steps_below(keys, path) if step != NAME]
        yield path, f"must be a table{' with ' + ', '.join(below) if below else ''}"


def _path(location: Sequence[str | int], table: Mapping[str, Any], *, ends_there: bool) -> Steps:
    """Return the path in the file: pydantic's has the tag of a union and the word [key] in it, too.

    A path that `ends_there` is that of a table that is there; else its last step may be what is missing.
    """
    path: Steps = ()
    for position, step in enumerate(map(str, location)):
        last = position == len(location) - 1
        try:
            value_at(table, (*path, step))
        except KeyError:
            if not last or ends_there or step == "[key]":
                continue
        path = (*path, step)
    return path


def _line(path: Steps, clause: str, keys: Sequence[Key], table: Mapping[str, Any], origins: Origins) -> str:
    variable = origins.variables.get(path)
    where = f"{variable} ({dotted(path)})" if variable else f"{origins.file or 'redrive.toml'}: {dotted(path) or 'the file'}"
    if clause.startswith("is "):
        return f"{where} {clause}"
    value = _echo(path, keys, table)
    return f"{where} is {value}: {clause}" if value else f"{where}: {clause}"


def _echo(path: Steps, keys: Sequence[Key], table: Mapping[str, Any]) -> str | None:
    """Return the value at a path for a message; None for a table, for nothing, and for what may be a secret."""
    key = find(keys, path)
    try:
        value = value_at(table, path)
    except KeyError:
        return None
    if key is None or (isinstance(value, dict) and any(isinstance(item, dict) for item in value.values())):
        return None
    return key.rule.echo(value)
