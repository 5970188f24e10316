"""From a dead letter's body to its needs: JMESPath expressions that a source's section in redrive.toml gives.

`each` finds the entities in the document ({A, B} in one message: two needs); without it the document is the one entity.
Each parameter has an expression that is applied to the entity, or is a constant. A dead letter yields all of its needs or none:
when one of them cannot be read the letter is rejected with its bytes, and can be repaired.
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
from tasks.dlq.parameters import canonical_key, parse_parameters, shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tasks.dlq.calls.route import Route

#: Needs of one dead letter. A message about more is a batch export, not a failure.
MAX_NEEDS = 1000
#: Bounds how deep the tree of an expression can be: its evaluation recurses.
_MAX_EXPRESSION = 500
#: What Python's operators raise when an expression meets values that it was not written for; jmespath lets them through.
_EVALUATION_ERRORS = (JMESPathError, ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)


@dataclass(frozen=True, kw_only=True)
class BodyMapping:
    """How a document becomes raw parameter values.

    Attributes:
        params: for each parameter the JMESPath expression that finds it.
        each: the JMESPath expression that finds the list of entities; None when the document is the entity. What is null in the
            list is an entity as well, also where the expression ends in "[]" or "[*]", of which JMESPath drops what is null:
            "m" and "m[*]" are the list as it is, and "m[]" puts the entities of lists within it in their place.
        constants: parameters that are the same for all.

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
        """Return the raw value of each parameter for each entity; None where an expression finds nothing.

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
                f"{each.expression} finds {shown(found)}, which is no list",
                hint="`each` of the source in redrive.toml must find a list",
            )
        if len(found) > MAX_NEEDS:
            raise UnreadableBody("too-many", f"{each.expression} finds {len(found)} entities; at most {MAX_NEEDS} are taken")
        return found


@dataclass(frozen=True)
class Condition:
    """A JMESPath expression over `{"body": …, "origin": …}` that is true or false, in JMESPath's own sense of truth.

    Raises:
        ValueError: it is not JMESPath, or uses an unknown function.
    """

    text: str
    _path: ParsedResult = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_path", _compile(self.text))

    def holds(self, document: Any, origin: Mapping[str, object]) -> bool:
        """Tell whether it is true of a dead letter. Raises UnreadableBody("mapping-failed")."""
        found = _search(self._path, {"body": document, "origin": origin})
        return found is not None and found is not False and found not in ("", [], {})


def needs_of(document: Any, mapping: BodyMapping, route: Route) -> list[tuple[str, dict[str, str]]]:
    """Return the needs in a document as (key, parameters), without doubles, sorted by key.

    Raises:
        UnreadableBody: the document maps to nothing, or a parameter is not of the route's type ("invalid-parameter"). Nothing
            else is ever raised, whatever the document is.
    """
    needs: dict[str, dict[str, str]] = {}
    for values in mapping.read(document):
        try:
            parameters = parse_parameters(route.params, values)
        except InvalidParameter as error:
            raise UnreadableBody("invalid-parameter", error.message, hint=error.hint) from error
        needs[canonical_key(parameters)] = parameters
    return sorted(needs.items())


def check_expression(text: str) -> None:
    """Refuse what is not JMESPath, or what could never be evaluated. Raises ValueError with what is wrong."""
    _compile(text)


def _compile(text: str) -> ParsedResult:
    if len(text) > _MAX_EXPRESSION:
        raise ValueError(f"the expression has {len(text)} characters; at most {_MAX_EXPRESSION} are taken")
    try:
        with warnings.catch_warnings():  # `text` for 'text' is an old notation that AWS's own examples still have
            warnings.simplefilter("ignore", PendingDeprecationWarning)
            compiled = jmespath.compile(text)
        unknown = sorted(set(_functions(compiled.parsed)) - Functions.FUNCTION_TABLE.keys())
    except _EVALUATION_ERRORS as error:
        raise ValueError(f"{shown(text)} is not JMESPath: {_gist(error)}") from None
    if unknown:
        raise ValueError(f"{shown(text)} calls {unknown[0]}(), which JMESPath does not have")
    return compiled


def _list_of(each: ParsedResult) -> tuple[ParsedResult, bool]:
    """Return the expression of the list itself, without a projection at its end, and whether that flattens the list."""
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
    """Yield the function names in a syntax tree: jmespath itself looks them up only when it evaluates."""
    if isinstance(node, dict):
        if node.get("type") == "function_expression":
            yield node["value"]
        for child in node.get("children", ()):
            yield from _functions(child)


def _search(path: ParsedResult, document: Any) -> Any:
    try:
        return path.search(document)
    except _EVALUATION_ERRORS as error:
        raise UnreadableBody("mapping-failed", f"{path.expression} cannot be applied to the body: {_gist(error)}") from error


def _gist(error: Exception) -> str:
    """Return the first line of an error of jmespath's in ASCII: it may hold a value from the body, of any length."""
    line = re.sub(r"(?i)^(?:invalid|bad) jmespath expression: |(?:, for expression)?:$", "", str(error).partition("\n")[0])
    return ascii(line)[1:-1][:200]
