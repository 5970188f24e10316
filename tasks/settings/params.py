"""The type of a route's parameter as redrive.toml writes it."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Annotated, Any

from pydantic import PlainValidator

from tasks.dlq.parameters import Choice, Integer, ParameterType, Pattern, Text, Uuid
from tasks.settings.values import Display

_WORDS: dict[str, ParameterType] = {
    "positive-int": Integer(positive=True),
    "int": Integer(),
    "uuid": Uuid(),
    "string": Text(),
}


def _parse(value: Any) -> ParameterType:
    if isinstance(value, str) and value.startswith("{"):  # from the environment
        with suppress(ValueError, RecursionError):
            value = json.loads(value)
    match value:
        case str(word) if word in _WORDS:
            return _WORDS[word]
        case {"pattern": str(pattern), **rest} if not rest:
            return Pattern(pattern)
        case {"enum": [_, *_] as words, **rest} if not rest and all(isinstance(word, str) for word in words):
            return Choice(tuple(words))
        case _:
            raise ValueError


def _show(value: ParameterType) -> Any:
    match value:
        case Pattern(pattern):
            return {"pattern": pattern}
        case Choice(choices):
            return {"enum": list(choices)}
        case _:
            return next(word for word, kind in _WORDS.items() if kind == value)


TypeOfParameter = Annotated[
    ParameterType,
    PlainValidator(_parse),
    Display('"positive-int", "int", "uuid", "string", { pattern = "…" } or { enum = ["…", …] }', show=_show),
]
