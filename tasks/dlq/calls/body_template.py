"""The body of a call: a JSON template whose `{name}` places take the parameters.

A text that is nothing but a place, `"{employeeId}"`, becomes the parameter's value: a number where that is an integer.
Within a longer text, `"employee-{employeeId}"`, it is text. A value cannot leave its place: the template is parsed
first, and what is sent is written by a JSON writer.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tasks.dlq.errors import UnreadableBody
from tasks.dlq.json_body import read_json

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_PLACE = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}", re.ASCII)
#: Bytes of a template: a call brings one entity up to date, it carries no data.
MAX_TEMPLATE = 64 * 1024


@dataclass(frozen=True)
class BodyTemplate:
    """A template of JSON. `numbers` are the parameters that are sent as numbers where they stand alone.

    Raises:
        ValueError: the template is not JSON.
    """

    text: str
    numbers: frozenset[str] = frozenset()
    variables: frozenset[str] = field(init=False, compare=False)
    _document: Any = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Parse the template once."""
        try:
            document = read_json(self.text.encode("utf-8", "surrogatepass"), max_bytes=MAX_TEMPLATE)
        except UnreadableBody as error:
            raise ValueError(error.message) from error
        for text in (*_texts(document), *_names(document)):
            try:
                text.encode()
            except UnicodeEncodeError:
                raise ValueError("it holds a lone surrogate, which no request can carry") from None
        if name := next((name for name in _names(document) if _PLACE.search(name)), None):
            raise ValueError(f"the name {json.dumps(name)} holds a place: only values can")
        object.__setattr__(self, "_document", document)
        object.__setattr__(self, "variables", frozenset(name for text in _texts(document) for name in _PLACE.findall(text)))

    def render(self, parameters: Mapping[str, str]) -> bytes:
        """Return the body of a call: UTF-8, the same bytes for the same parameters. Raises KeyError when one is missing."""
        return json.dumps(self._filled(self._document, parameters), ensure_ascii=False, separators=(",", ":")).encode()

    def _filled(self, document: Any, parameters: Mapping[str, str]) -> Any:
        match document:
            case str():
                place = _PLACE.fullmatch(document)
                if place and place[1] in self.numbers:
                    return int(parameters[place[1]])
                return _PLACE.sub(lambda place: parameters[place[1]], document)
            case list():
                return [self._filled(each, parameters) for each in document]
            case dict():
                return {name: self._filled(each, parameters) for name, each in document.items()}
        return document


def _texts(document: Any) -> Iterator[str]:
    match document:
        case str():
            yield document
        case list():
            for each in document:
                yield from _texts(each)
        case dict():
            for each in document.values():
                yield from _texts(each)


def _names(document: Any) -> Iterator[str]:
    match document:
        case list():
            for each in document:
                yield from _names(each)
        case dict():
            for name, each in document.items():
                yield name
                yield from _names(each)
