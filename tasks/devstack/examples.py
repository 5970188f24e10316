"""A failure to try a configuration with: parameters that a route takes, and a body that a source maps to them."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

from tasks.dlq.errors import UnreadableBody
from tasks.dlq.parameters import Integer
from tasks.dlq.reading.mapping import needs_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tasks.dlq.calls.route import Route
    from tasks.dlq.parameters import ParameterType
    from tasks.settings.sources import SqsSource

_VALUES = ("7", "123e4567-e89b-12d3-a456-426614174000", "example")
#: What can be turned round: "employee.id", and with [] at its end "order.lines[]".
_PATH = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*)*", re.ASCII)


def parameters(route: Route) -> dict[str, str] | None:
    """Return a value for each of the route's parameters; None when one is of a pattern that none here matches."""
    found = {name: _value(kind) for name, kind in route.params.items()}
    known = {name: value for name, value in found.items() if value is not None}
    return known if len(known) == len(found) else None


def body(source: SqsSource, route: Route, values: Mapping[str, str]) -> str | None:
    """Return a body that the source maps to exactly these parameters; None when its expressions cannot be turned round."""
    entity: dict[str, Any] = {}
    for name, expression in source.map.items():
        value = int(values[name]) if isinstance(route.params[name], Integer) else values[name]
        if not (_PATH.fullmatch(expression) and _put(entity, expression, value)):
            return None
    document: dict[str, Any] = entity
    if source.each is not None:
        document = {}
        if not (source.each.endswith("[]") and _PATH.fullmatch(source.each[:-2])):
            return None
        _put(document, source.each[:-2], [entity])
    text = json.dumps(document)
    if len(text) > source.max_body:
        return None
    try:
        needs = needs_of(document, source.mapping, route)
    except UnreadableBody:
        return None
    return text if [found for _, found in needs] == [dict(values)] else None


def _value(kind: ParameterType) -> str | None:
    for value in (*_VALUES, *getattr(kind, "choices", ())):
        try:
            return kind.parse(value)
        except ValueError:
            continue
    return None


def _put(document: dict[str, Any], path: str, value: object) -> bool:
    """Put the value at a dotted path; False when another value stands in the way."""
    *parents, last = path.split(".")
    below: Any = document
    for step in parents:
        below = below.setdefault(step, {})
        if not isinstance(below, dict):
            return False
    return bool(below.setdefault(last, value) == value)
