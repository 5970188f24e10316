"""The types of single values in redrive.toml: numbers, durations, sizes, flags, text and names.

pydantic checks the values. The `Display` in a type's annotation describes the type to people. The environment holds only
text, so each type also accepts text.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, AllowInfNan, BeforeValidator, Strict, StringConstraints

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

KeyPath = tuple[str, ...]
MINUTE, HOUR, DAY = 60, 3600, 86400
KIB, MIB = 1 << 10, 1 << 20

_DURATIONS = {"ms": 0.001, "s": 1, "m": MINUTE, "h": HOUR, "d": DAY}
_SIZES = {"B": 1, "KiB": KIB, "MiB": MIB}
_AMOUNT = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)\s*([A-Za-z]*)", re.ASCII)
_DIGITS = re.compile(r"[0-9]{1,12}", re.ASCII)


class Refusal(ValueError):  # noqa: N818 - a message for people, not a fault of the program
    """Problems of a table or a value. Each has a path below it, and a clause such as "must not be set"."""

    def __init__(self, *found: tuple[KeyPath, str]) -> None:
        super().__init__("; ".join(clause for _, clause in found))
        self.found = found


@dataclass(frozen=True)
class Display:
    """How people see the values of a type."""

    #: Completes the sentence "must be …". `{least}` and `{most}` stand for the bounds of a field.
    allowed: str
    #: Returns a valid value as redrive.toml would have it, JSON-ready and without secrets.
    show: Callable[[Any], Any] = lambda value: value
    #: A refused value may be a secret: no message repeats it.
    secret: bool = False

    def within(self, bounds: Iterable[Any]) -> Display:
        """Return this display with the bounds in the metadata of a field."""
        allowed = self.allowed
        for bound in bounds:
            for word, limit in (("{least}", getattr(bound, "ge", None)), ("{most}", getattr(bound, "le", None))):
                if limit is not None:
                    allowed = allowed.replace(word, json.dumps(self.show(limit)))
        return replace(self, allowed=allowed)


def format_duration(seconds: float) -> str:
    """Return `seconds` as redrive.toml has it: 90 is "90s", 900 is "15m", 0.5 is "500ms"."""
    millis = round(seconds * 1000)
    unit = next(unit for unit in reversed(_DURATIONS) if millis % round(_DURATIONS[unit] * 1000) == 0)
    return f"{millis // round(_DURATIONS[unit] * 1000)}{unit}" if millis else "0s"


def _format_size(count: int) -> str:
    unit = next(unit for unit in reversed(_SIZES) if count % _SIZES[unit] == 0)
    return f"{count // _SIZES[unit]}{unit}"


def _parse_digits(value: Any) -> Any:
    return int(value) if isinstance(value, str) and _DIGITS.fullmatch(value) else value


def _parse_amount(value: Any, units: dict[str, float]) -> Any:
    """Return the number that a text such as "30s" means; anything else unchanged, for pydantic to check."""
    found = _AMOUNT.fullmatch(value) if isinstance(value, str) else None
    if not found or (found[2] and found[2] not in units):
        return value
    number = float(found[1]) if "." in found[1] else int(found[1])
    return number * units[found[2]] if found[2] else number


def _parse_flag(value: Any) -> Any:
    return {"true": True, "false": False}.get(value.lower(), value) if isinstance(value, str) else value


def _refuse_unprintable(text: str) -> str:
    if not text.isprintable():
        raise ValueError
    return text


def _refuse_key(name: str) -> str:
    if name.startswith("REDRIVE_") and "__" in name:
        raise Refusal(((), 'must be a name without "__": REDRIVE_…__… are Redrive\'s own keys'))
    return name


def split_commas(value: Any) -> Any:
    """Return the items of a text with commas: the environment has no lists."""
    return [item.strip() for item in value.split(",")] if isinstance(value, str) else value


WholeNumber = Annotated[int, Strict(), BeforeValidator(_parse_digits), Display("a whole number from {least} to {most}")]
Seconds = Annotated[
    float,
    Strict(),
    AllowInfNan(allow_inf_nan=False),
    BeforeValidator(partial(_parse_amount, units=_DURATIONS)),
    Display("a duration from {least} to {most}, or a number of seconds", show=format_duration),
]
Size = Annotated[
    int,
    Strict(),
    BeforeValidator(partial(_parse_amount, units=_SIZES)),
    Display("a size from {least} to {most}, or a number of bytes", show=_format_size),
]
Flag = Annotated[bool, Strict(), BeforeValidator(_parse_flag), Display("true or false")]
#: One line of text. A field adds its own `max_length` and `Display`.
PrintableText = Annotated[str, StringConstraints(min_length=1), AfterValidator(_refuse_unprintable)]
#: A refused value is never repeated: the usual mistake is the secret itself instead of the variable's name.
VariableName = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,127}$"),
    AfterValidator(_refuse_key),
    Display("the name of an environment variable (the secret itself stays in the environment)", secret=True),
]
#: The name of a route or a source. "__" separates the parts of an environment variable's name.
Name = Annotated[
    str,
    StringConstraints(pattern=r"^[a-z0-9]+(_[a-z0-9]+)*$", max_length=64),
    Display("a name of a-z 0-9 with single _ between, at most 64 characters"),
]
ParameterName = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}$"),
    Display("the name of a template variable: letters, digits, _"),
]
