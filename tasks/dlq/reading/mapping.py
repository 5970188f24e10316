"""Maps a dead letter's body to its needs, by the JMESPath expressions of its source in redrive.toml.

`each` finds the entities in the document ({A, B} in one message are two needs). Without it, the document is the only entity.
A parameter is a constant, or has an expression that is applied to the entity. A dead letter yields all of its needs or none: if
one cannot be read, the whole letter is rejected, and can be repaired.
"""

from __future__ import annotations

import re
import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import jmespath
from jmespath.exceptions import JMESPathError
from jmespath.functions import Functions
from jmespath.parser import ParsedResult

from tasks.dlq.errors import InvalidParameter, UnreadableBody
from tasks.dlq.key import make_key
from tasks.dlq.parameters import parse_parameters
from tasks.dlq.text import show_value

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tasks.dlq.calls.route import Route

#: Needs of one dead letter. A message with more entities is a batch export, not a failure.
MAX_NEEDS = 1000
#: Characters of an expression. This bounds the depth of its syntax tree, because evaluation recurses.
_MAX_EXPRESSION = 500
#: Errors that jmespath lets through when an expression is applied to unsuitable values.
_EVALUATION_ERRORS = (JMESPathError, ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)


@dataclass(frozen=True, kw_only=True)
class BodyMapping:
    """How a document becomes raw parameter values.

    Attributes:
        params: for each parameter the JMESPath expression that finds it.
        each: the JMESPath expression that finds the list of entities; None if the document is the entity. A null in the list
            counts as an entity, although JMESPath drops it at "[]" or "[*]": "m" and "m[*]" are the list as it is, and "m[]"
            also flattens lists inside it.
        constants: parameters with the same value for every letter.

    Raises:
        ValueError: an expression is not JMESPath, or uses an unknown function.
    """

    params: Mapping[str, str]
    each: str | None = None
    constants: Mapping[str, str] = field(default_factory=dict)
    _params: Mapping[str, ParsedResult] = field(init=False, repr=False, compare=False)
    _each: ParsedResult | None = field(init=False, repr=False, compare=False)
    _flattens: bool = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        each, flattens = (None, False) if self.each is None else _list_of(_compile(self.each))
        object.__setattr__(self, "_params", {name: _compile(text) for name, text in self.params.items()})
        object.__setattr__(self, "_each", each)
        object.__setattr__(self, "_flattens", flattens)

    def read(self, document: Any) -> list[dict[str, Any]]:
        """Return the raw value of each parameter for each entity; None if an expression finds nothing.

        Raises:
            UnreadableBody: "no-match", "too-many" or "mapping-failed".
        """
        entities = [document] if self._each is None else self._entities(document, self._each)
        return [{**self.constants, **{name: _search(path, entity) for name, path in self._params.items()}} for entity in entities]

    def _entities(self, document: Any, each: ParsedResult) -> list[Any]:
        found = _search(each, document)
        if self._flattens and isinstance(found, list):
            found = [entity for part in found for entity in (part if isinstance(part, list) else [part])]
        if found is None or found == []:
            raise UnreadableBody(
                "no-match", f"{each.expression} finds nothing in the body", hint="see `each` of the source in redrive.toml"
            )
        if not isinstance(found, list):
            raise UnreadableBody(
                "no-match",
                f"{each.expression} finds {show_value(found)}, which is not a list",
                hint="`each` of the source in redrive.toml must find a list",
            )
        if len(found) > MAX_NEEDS:
            raise UnreadableBody("too-many", f"{each.expression} finds {len(found)} entities; the limit is {MAX_NEEDS}")
        return found


@dataclass(frozen=True)
class Condition:
    """A JMESPath expression over `{"body": …, "origin": …}`, true or false by JMESPath's rules.

    Raises:
        ValueError: it is not JMESPath, or uses an unknown function.
    """

    text: str
    _path: ParsedResult = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_path", _compile(self.text))

    def holds(self, document: Any, origin: Mapping[str, object]) -> bool:
        """Whether the condition is true for a dead letter. Raises UnreadableBody("mapping-failed")."""
        found = _search(self._path, {"body": document, "origin": origin})
        return found is not None and found is not False and found not in ("", [], {})


def map_needs(document: Any, mapping: BodyMapping, route: Route) -> list[tuple[str, dict[str, str]]]:
    """Return the needs in a document as (key, parameters), without duplicates, sorted by key.

    Raises:
        UnreadableBody: the document maps to nothing, or a parameter is not of the route's type ("invalid-parameter"). No document
            causes another error.
    """
    needs: dict[str, dict[str, str]] = {}
    for values in mapping.read(document):
        try:
            parameters = parse_parameters(route.params, values)
        except InvalidParameter as error:
            raise UnreadableBody("invalid-parameter", error.message, hint=error.hint) from error
        needs[make_key(parameters)] = parameters
    return sorted(needs.items())


def check_expression(text: str) -> None:
    """Check a JMESPath expression. Raises ValueError with the reason if it is wrong."""
    _compile(text)


def _compile(text: str) -> ParsedResult:
    if len(text) > _MAX_EXPRESSION:
        raise ValueError(f"the expression has {len(text)} characters; the limit is {_MAX_EXPRESSION}")
    try:
        with warnings.catch_warnings():  # AWS's own examples still use the old notation `text` for 'text'
            warnings.simplefilter("ignore", PendingDeprecationWarning)
            compiled = jmespath.compile(text)
        unknown = sorted(set(_functions(compiled.parsed)) - Functions.FUNCTION_TABLE.keys())
    except _EVALUATION_ERRORS as error:
        raise ValueError(f"{show_value(text)} is not JMESPath: {_summarise(error)}") from None
    if unknown:
        raise ValueError(f"{show_value(text)} calls {unknown[0]}(), which JMESPath does not have")
    return compiled


def _list_of(each: ParsedResult) -> tuple[ParsedResult, bool]:
    """Return the expression without a projection at its end, and whether that projection flattens the list."""
    node, flattens = _unprojected(each.parsed)
    return ParsedResult(each.expression, node), flattens


def _unprojected(node: Any) -> tuple[Any, bool]:
    match node:
        case {"type": "projection", "children": [{"type": "flatten", "children": [inner]}, {"type": "identity"}]}:
            return inner, True
        case {"type": "projection", "children": [inner, {"type": "identity"}]}:
            return inner, False
        case {"type": "pipe", "children": [left, right]}:
            inner, flattens = _unprojected(right)
            return {**node, "children": [left, inner]}, flattens
    return node, False


def _functions(node: Any) -> Iterator[str]:
    """Yield the function names in a syntax tree. jmespath itself looks them up only during evaluation."""
    if isinstance(node, dict):
        if node.get("type") == "function_expression":
            yield node["value"]
        for child in node.get("children", ()):
            yield from _functions(child)


def _search(path: ParsedResult, document: Any) -> Any:
    try:
        return path.search(document)
    except _EVALUATION_ERRORS as error:
        raise UnreadableBody("mapping-failed", f"{path.expression} cannot be applied to the body: {_summarise(error)}") from error


def _summarise(error: Exception) -> str:
    """Return the first line of a jmespath error in ASCII, cut: it may contain a long value from the body."""
    line = re.sub(r"(?i)^(?:invalid|bad) jmespath expression: |(?:, for expression)?:$", "", str(error).partition("\n")[0])
    return ascii(line)[1:-1][:200]
