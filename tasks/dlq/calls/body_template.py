"""The body of a call: a JSON template with `{name}` placeholders for the parameters.

A string that is only a placeholder, `"{employeeId}"`, becomes the parameter's value: a number if the parameter is an integer.
Inside a longer string, `"employee-{employeeId}"`, it becomes text. A value cannot change the document's structure: the template
is parsed first, and a JSON encoder writes the result.
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

_PLACEHOLDER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)\}", re.ASCII)
#: The largest template in bytes. A call brings one entity up to date; it transports no data.
MAX_TEMPLATE = 64 * 1024


@dataclass(frozen=True)
class BodyTemplate:
    """A JSON template. Raises ValueError if it is not JSON, or has a placeholder in a name."""

    text: str
    #: The parameters that are sent as numbers if their placeholder is the whole string.
    numbers: frozenset[str] = frozenset()
    #: The names of the placeholders.
    variables: frozenset[str] = field(init=False, compare=False)
    _document: Any = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        try:
            document = read_json(self.text.encode("utf-8", "surrogatepass"), max_bytes=MAX_TEMPLATE)
        except UnreadableBody as error:
            raise ValueError(error.message) from error
        for text in (*_texts(document), *_names(document)):
            try:
                text.encode()
            except UnicodeEncodeError:
                raise ValueError("it contains a lone surrogate, which UTF-8 cannot encode") from None
        if name := next((name for name in _names(document) if _PLACEHOLDER.search(name)), None):
            raise ValueError(f"the name {json.dumps(name)} contains a placeholder: only values may")
        object.__setattr__(self, "_document", document)
        object.__setattr__(self, "variables", frozenset(name for text in _texts(document) for name in _PLACEHOLDER.findall(text)))

    def render(self, parameters: Mapping[str, str]) -> bytes:
        """Return the body of a call in UTF-8: the same bytes for the same parameters. Raises KeyError if one is missing."""
        return json.dumps(self._fill(self._document, parameters), ensure_ascii=False, separators=(",", ":")).encode()

    def _fill(self, document: Any, parameters: Mapping[str, str]) -> Any:
        match document:
            case str():
                placeholder = _PLACEHOLDER.fullmatch(document)
                if placeholder and placeholder[1] in self.numbers:
                    return int(parameters[placeholder[1]])
                return _PLACEHOLDER.sub(lambda placeholder: parameters[placeholder[1]], document)
            case list():
                return [self._fill(item, parameters) for item in document]
            case dict():
                return {name: self._fill(value, parameters) for name, value in document.items()}
        return document


def _texts(document: Any) -> Iterator[str]:
    match document:
        case str():
            yield document
        case list():
            for item in document:
                yield from _texts(item)
        case dict():
            for value in document.values():
                yield from _texts(value)


def _names(document: Any) -> Iterator[str]:
    match document:
        case list():
            for item in document:
                yield from _names(item)
        case dict():
            for name, value in document.items():
                yield name
                yield from _names(value)
