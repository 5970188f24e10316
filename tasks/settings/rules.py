"""What a single value in redrive.toml may be: one rule a kind of value, each able to say what it allows.

A rule stands in a field's annotation (`Annotated[float, Seconds("1s", "1h")]`). It parses what TOML or the environment gives
(always text there), and shows the value again as a person would write it.
"""

from __future__ import annotations

import json
import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic_core import core_schema

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler

MAX_ECHO = 80
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)\s*(ms|s|m|h|d)?", re.ASCII)
_SIZES = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20}
_SIZE = re.compile(r"([0-9]{1,12})\s*(B|KiB|MiB)?", re.ASCII)
_DIGITS = re.compile(r"[0-9]{1,12}", re.ASCII)
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}", re.ASCII)


class Rule(ABC):
    """What a value may be."""

    meaning: str

    @property
    def allowed(self) -> str:
        """What is accepted, in words that complete the sentence "must be …"."""
        return self.meaning

    @abstractmethod
    def parse(self, value: Any) -> Any:
        """Return the value as the code uses it. Raises ValueError with a clause for people."""

    def show(self, value: Any) -> Any:
        """Return a parsed value as a person would write it, JSON-ready, secrets masked."""
        return value

    def echo(self, value: Any) -> str | None:
        """Return a refused value for a message, on one line, or None when it may be a secret."""
        text = json.dumps(value, default=str)
        return text if len(text) <= MAX_ECHO else text[: MAX_ECHO - 1] + "…"

    def refusal(self) -> ValueError:
        """Return the error for a value that is not allowed."""
        return ValueError(f"must be {self.allowed}")

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        """Let pydantic ask this rule, and only it."""
        return core_schema.no_info_plain_validator_function(self.parse)


@dataclass(frozen=True)
class Seconds(Rule):
    """A duration within bounds; parsed to seconds."""

    least: str
    most: str

    @property
    def allowed(self) -> str:
        """What is accepted, in words for people."""
        return f'a duration from "{self.least}" to "{self.most}", or a number of seconds'

    def parse(self, value: Any) -> float:
        """Return seconds."""
        seconds = _seconds(value)
        if seconds is None or not _seconds_of(self.least) <= seconds <= _seconds_of(self.most):
            raise self.refusal()
        return seconds

    def show(self, value: float | None) -> str | None:
        """Return the duration with the largest unit that divides it."""
        return None if value is None else duration(value)


@dataclass(frozen=True)
class Bytes(Rule):
    """A size within bounds; parsed to bytes."""

    least: str
    most: str

    @property
    def allowed(self) -> str:
        """What is accepted, in words for people."""
        return f'a size from "{self.least}" to "{self.most}", or a number of bytes'

    def parse(self, value: Any) -> int:
        """Return bytes."""
        size = _bytes(value)
        if size is None or not _bytes_of(self.least) <= size <= _bytes_of(self.most):
            raise self.refusal()
        return size

    def show(self, value: int) -> str:
        """Return the size with the largest unit that divides it."""
        unit = next(unit for unit, factor in reversed(_SIZES.items()) if value % factor == 0)
        return f"{value // _SIZES[unit]}{unit}"


@dataclass(frozen=True)
class Count(Rule):
    """A whole number within bounds."""

    least: int
    most: int

    @property
    def allowed(self) -> str:
        """What is accepted, in words for people."""
        return f"a whole number from {self.least} to {self.most}"

    def parse(self, value: Any) -> int:
        """Return the number."""
        if isinstance(value, str) and _DIGITS.fullmatch(value):
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int) or not self.least <= value <= self.most:
            raise self.refusal()
        return value


@dataclass(frozen=True)
class Flag(Rule):
    """True or false."""

    meaning: str = "true or false"

    def parse(self, value: Any) -> bool:
        """Return the truth value."""
        if isinstance(value, bool):
            return value
        if isinstance(value, str) and value.lower() in {"true", "false"}:
            return value.lower() == "true"
        raise self.refusal()


@dataclass(frozen=True)
class Matching(Rule):
    """Text that a regular expression matches as a whole."""

    pattern: str
    meaning: str

    def parse(self, value: Any) -> str:
        """Return the text unchanged."""
        if not isinstance(value, str) or not re.fullmatch(self.pattern, value, re.ASCII):
            raise self.refusal()
        return value


@dataclass(frozen=True)
class OneOf(Rule):
    """One of a fixed set of words."""

    words: tuple[str, ...]

    @property
    def allowed(self) -> str:
        """What is accepted, in words for people."""
        return " or ".join(json.dumps(word) for word in self.words)

    def parse(self, value: Any) -> str:
        """Return the word."""
        if not isinstance(value, str) or value not in self.words:
            raise self.refusal()
        return value


@dataclass(frozen=True)
class Line(Rule):
    """One line of printable text; None where the key may be left out."""

    meaning: str
    most: int = 1000

    def parse(self, value: Any) -> str:
        """Return the text unchanged."""
        if not isinstance(value, str) or not 1 <= len(value) <= self.most or not value.isprintable():
            raise self.refusal()
        return value


@dataclass(frozen=True)
class Variable(Rule):
    """The name of an environment variable that holds a secret.

    A refused value is never echoed: the usual mistake is the secret itself in the place of its variable's name.
    """

    meaning: str = "the name of an environment variable (the secret itself stays in the environment)"

    def parse(self, value: Any) -> str:
        """Return the name."""
        if not isinstance(value, str) or not _VARIABLE.fullmatch(value):
            raise self.refusal()
        if value.startswith("REDRIVE_") and "__" in value:
            raise ValueError('must be a name without "__": REDRIVE_…__… are Redrive\'s own keys')
        return value

    def echo(self, value: Any) -> str | None:  # noqa: ARG002
        """Return nothing: it may be the secret."""
        return None


def duration(seconds: float) -> str:
    """Return `seconds` as redrive.toml has it: 90 is "90s", 900 is "15m", 0.5 is "500ms"."""
    millis = round(seconds * 1000)
    unit = next(unit for unit in ("d", "h", "m", "s", "ms") if millis % round(_UNITS[unit] * 1000) == 0)
    return f"{millis // round(_UNITS[unit] * 1000)}{unit}" if millis else "0s"


def _seconds(value: Any) -> float | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, int | float):
        return float(value) if abs(value) < 1e12 else None  # noqa: PLR2004 - beyond any bound; false for NaN, too
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    return float(match[1]) * _UNITS[match[2] or "s"] if match else None


def _seconds_of(text: str) -> float:
    seconds = _seconds(text)
    assert seconds is not None, text  # noqa: S101 - a bound that stands in this package
    return seconds


def _bytes(value: Any) -> int | None:
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    match = _SIZE.fullmatch(value) if isinstance(value, str) else None
    return int(match[1]) * _SIZES[match[2] or "B"] if match else None


def _bytes_of(text: str) -> int:
    size = _bytes(text)
    assert size is not None, text  # noqa: S101 - a bound that stands in this package
    return size
