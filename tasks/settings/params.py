"""The type of a template variable as redrive.toml names it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from tasks.dlq.parameters import Choice, Integer, ParameterType, Pattern, Text, Uuid
from tasks.settings.rules import Rule

_WORDS: dict[str, ParameterType] = {
    "positive-int": Integer(positive=True),
    "int": Integer(),
    "uuid": Uuid(),
    "string": Text(),
}


@dataclass(frozen=True)
class TypeOfParameter(Rule):
    """A word, `{ pattern = "…" }` or `{ enum = [...] }`; parsed to a ParameterType."""

    meaning: str = '"positive-int", "int", "uuid", "string", { pattern = "…" } or { enum = ["…", …] }'

    def parse(self, value: Any) -> ParameterType:
        """Return the type."""
        if isinstance(value, str) and value.startswith("{"):  # from the environment
            value = _json(value)
        if isinstance(value, str) and value in _WORDS:
            return _WORDS[value]
        match value:
            case {"pattern": str(pattern), **rest} if not rest:
                return _pattern(pattern)
            case {"enum": [_, *_] as choices, **rest} if not rest:
                return Choice(tuple(_choice(choice) for choice in choices))
            case _:
                raise self.refusal()

    def show(self, value: ParameterType) -> Any:
        """Return the type as redrive.toml names it."""
        match value:
            case Pattern(pattern):
                return {"pattern": pattern}
            case Choice(choices):
                return {"enum": list(choices)}
            case _:
                return next(word for word, kind in _WORDS.items() if kind == value)


def _pattern(text: str) -> Pattern:
    try:
        return Pattern(text)
    except ValueError as error:
        raise ValueError(f"must have a regular expression as its pattern: {error}") from None


def _choice(value: Any) -> str:
    try:
        return Text().parse(value)
    except ValueError as error:
        raise ValueError(f"must have in its enum only {error}") from None


def _json(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
