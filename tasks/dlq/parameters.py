"""Strict types for the parameters of a route.

A wrong parameter is refused, never repaired: it becomes part of a URL. Digits in a JSON string are accepted as integers, because
many producers quote their ids. Booleans, floats, blanks, plus signs, leading zeros and non-ASCII digits are refused.
"""

from __future__ import annotations

import re
import unicodedata
import uuid
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import unquote

import re2

from tasks.dlq.errors import InvalidParameter
from tasks.dlq.text import show_value

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_LENGTH = 256
MAX_DIGITS = 18
MAX_PATTERN = 200
_INTEGER = re.compile(r"-?(0|[1-9][0-9]*)", re.ASCII)
_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}", re.ASCII)
#: "." or ".." between slashes of either kind. Some servers remove blanks and ";parameters" from a segment first.
_DOT_SEGMENT = re.compile(r"(?:^|[/\\])\s*\.{1,2}\s*(?:;[^/\\]*)?(?:$|[/\\])")


class ParameterType(Protocol):
    """The type of a parameter."""

    @property
    def allowed(self) -> str:
        """What the type accepts, in words for people."""
        ...

    def parse(self, value: Any) -> str:
        """Return the canonical text of `value`. Raises ValueError if it is not of this type."""
        ...


@dataclass(frozen=True)
class Integer:
    """An integer of at most 18 digits, as a JSON number or as ASCII digits in a string."""

    positive: bool = False

    @property
    def allowed(self) -> str:
        return "a positive integer" if self.positive else "an integer"

    def parse(self, value: Any) -> str:
        if isinstance(value, bool) or not isinstance(value, int | str):
            raise ValueError(self.allowed)  # noqa: TRY004 - one error type for a wrong value
        if isinstance(value, int) and abs(value) >= 10**MAX_DIGITS:  # before str(): Python refuses to print 5,000 digits
            raise ValueError(self._bounded)
        digits = str(value)
        if not _INTEGER.fullmatch(digits) or digits == "-0" or (self.positive and digits[0] in "-0"):
            raise ValueError(self.allowed)
        if len(digits.removeprefix("-")) > MAX_DIGITS:
            raise ValueError(self._bounded)
        return digits

    @property
    def _bounded(self) -> str:
        return f"{self.allowed} of at most {MAX_DIGITS} digits"


@dataclass(frozen=True)
class Uuid:
    """A UUID in its usual form with dashes. Upper case becomes lower case."""

    allowed: str = "a UUID such as 123e4567-e89b-12d3-a456-426614174000"

    def parse(self, value: Any) -> str:
        if not isinstance(value, str) or not _UUID.fullmatch(value):
            raise ValueError(self.allowed)
        return str(uuid.UUID(value))


@dataclass(frozen=True)
class Text:
    """Printable text of 1 to 256 characters, without surrounding blanks, control characters or a dot segment.

    By Unicode's categories, NUL, line ends, lone surrogates, direction marks and all blanks except the space are not printable.
    A slash is allowed, and sent as %2F. Use a `pattern` if the API's server decodes it.
    """

    allowed: str = (
        f"printable text of 1 to {MAX_LENGTH} characters without control characters, dot segments or surrounding blanks"
    )

    def parse(self, value: Any) -> str:
        if (
            not isinstance(value, str)
            or not 1 <= len(value) <= MAX_LENGTH
            or not value.isprintable()
            or value != value.strip()
            or has_dot_segment(value)
        ):
            raise ValueError(self.allowed)
        return value


@dataclass(frozen=True)
class Pattern:
    """Text that matches a regular expression as a whole, and that `Text` accepts.

    RE2 runs the expression, so the time is linear in the length of the text.

    Raises:
        ValueError: `pattern` is not an expression of RE2, or it is too long.
    """

    pattern: str
    _compiled: Any = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if len(self.pattern) > MAX_PATTERN:
            raise ValueError(f"a regular expression has at most {MAX_PATTERN} characters")
        options = re2.Options()
        options.log_errors = False  # RE2 would write them to stderr
        try:
            compiled = re2.compile(self.pattern, options)
        except UnicodeEncodeError:
            raise ValueError(f"{show_value(self.pattern)} is not UTF-8") from None
        except re2.error as error:
            reason = error.args[0].decode(errors="replace")
            raise ValueError(f"{show_value(self.pattern)} is not a regular expression of RE2: {reason[:80]}") from None
        object.__setattr__(self, "_compiled", compiled)

    @property
    def allowed(self) -> str:
        return f"text that matches {self.pattern}"

    def parse(self, value: Any) -> str:
        try:
            text = Text().parse(value)
        except ValueError as error:
            raise ValueError(self.allowed) from error
        if not self._compiled.fullmatch(text):
            raise ValueError(self.allowed)
        return text


@dataclass(frozen=True)
class Choice:
    """One of a fixed set of words, each of which `Text` accepts.

    Raises:
        ValueError: the set is empty, or a word in it is not valid.
    """

    choices: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.choices:
            raise ValueError("an enum needs at least one word")
        for choice in self.choices:
            try:
                Text().parse(choice)
            except ValueError as error:
                raise ValueError(f"{show_value(choice)} cannot be a choice: {error}") from error

    @property
    def allowed(self) -> str:
        return "one of " + ", ".join(self.choices)

    def parse(self, value: Any) -> str:
        if not isinstance(value, str) or value not in self.choices:
            raise ValueError(self.allowed)
        return value


def has_dot_segment(path: str) -> bool:
    """Whether a server could find a path segment "." or ".." in `path`, even after repeated percent-decoding.

    Compatibility characters are normalised first (U+FF0E FULLWIDTH FULL STOP is a dot).
    """
    while True:
        if _DOT_SEGMENT.search(unicodedata.normalize("NFKC", path)):
            return True
        decoded = unquote(path)
        if decoded == path:
            return False
        path = decoded


def parse_parameters(types: Mapping[str, ParameterType], values: Mapping[str, Any]) -> dict[str, str]:
    """Return the canonical text of each parameter, by name in sorted order.

    Raises:
        InvalidParameter: a name is missing, unknown, or its value is not of its type.
    """
    unknown = sorted(set(values) - set(types))
    if unknown:
        raise InvalidParameter(
            f"unknown parameter {show_value(unknown[0])}", hint=f"this route takes: {', '.join(sorted(types))}"
        )
    parsed: dict[str, str] = {}
    for name in sorted(types):
        if values.get(name) is None:
            missing = "missing or null" if name in values else "missing"  # JMESPath finds null for both
            raise InvalidParameter(f"parameter {name} is {missing}", hint=f"{name} must be {types[name].allowed}")
        try:
            parsed[name] = types[name].parse(values[name])
        except ValueError as error:
            raise InvalidParameter(f"parameter {name} is {show_value(values[name])}", hint=f"{name} must be {error}") from error
    return parsed
