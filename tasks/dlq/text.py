"""Values as text for people: escaped, shortened, on one line."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_UNITS = (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1))
#: Where a spreadsheet would start a formula: at the start of a cell, or after a character that separates cells in some locales.
#: Blanks and quotes may come first, and the sign may be full-width. See https://owasp.org/www-community/attacks/CSV_Injection
_FORMULA = re.compile(
    "(^|[,;|])(?=[ \"'`\u2018-\u201f\uff02\uff07]*[-=+@\u2212\ufe62\ufe63\ufe66\ufe6b\uff0b\uff0d\uff1d\uff20])"
)
_NUMBER = re.compile(r"[-+]?[0-9]+(\.[0-9]+)?", re.ASCII)


def escape(value: Any) -> str:
    """Return the value as text; each character that is not printable (line end, ANSI, bidirectional mark) becomes its escape."""
    text = "" if value is None else str(value)
    return text if text.isprintable() else "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def escape_cell(value: Any) -> str:
    """Return the value as a spreadsheet cell: escaped, with an apostrophe before anything that would start a formula."""
    text = escape(value)
    return text if _NUMBER.fullmatch(text) else _FORMULA.sub(r"\1'", text)


def shorten(value: object, limit: int = 200) -> str:
    """Return the first `limit` characters of an error or other value, on one line."""
    return " ".join(str(value).split())[:limit]


def show_value(value: Any, limit: int = 60) -> str:
    """Return a value for a message: escaped, on one line, at most `limit` characters. Of a nested value, return only its kind.

    true, false and null are spelled as in JSON.
    """
    if isinstance(value, int) and value.bit_length() > 256:  # noqa: PLR2004 - Python refuses to print 5,000 digits
        return f"an integer of {value.bit_length()} bits"
    if isinstance(value, dict | list | tuple):  # it may contain such integers, and be nested too deeply for ascii()
        return "an object" if isinstance(value, dict) else "a list"
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    text = ascii(value[: limit + 1] if isinstance(value, str) else value)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def join_names(names: Sequence[str]) -> str:
    """Return names for a sentence: "a", "a and b", "a, b and c"."""
    return " and ".join([*filter(None, [", ".join(names[:-1])]), *names[-1:]])


def format_count(count: int, noun: str) -> str:
    """Return the count with its noun: "1 job", "2,000 jobs"."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def format_parameters(values: Mapping[str, Any]) -> str:
    """Return parameters as they are typed: "employeeId=1234 team=7"."""
    return " ".join(f"{name}={value}" for name, value in values.items())


def format_span(seconds: float) -> str:
    """Return a number of seconds in the largest unit that fits: "45s", "2m", "3d"."""
    whole = round(seconds)
    unit, size = next(((unit, size) for unit, size in _UNITS if whole >= size), _UNITS[-1])
    return f"{whole // size}{unit}"


def format_time(milliseconds: int | None) -> str | None:
    """Return a time of the ledger as ISO 8601 in UTC: "2026-01-31T23:59:59.123Z"; None for None."""
    if milliseconds is None:
        return None
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def format_minute(milliseconds: int) -> str:
    """Return a time of the ledger for a sentence: "2026-01-31 23:59 UTC"."""
    return f"{datetime.fromtimestamp(milliseconds / 1000, UTC):%Y-%m-%d %H:%M UTC}"


def format_relative(time: str | None, now: int) -> str:
    """Return a time (ISO 8601) relative to the ledger's `now` in milliseconds: "in 12s", "now", "3m ago"."""
    if time is None:
        return ""
    seconds = round(datetime.fromisoformat(time).timestamp() - now / 1000)
    if seconds == 0:
        return "now"
    return f"in {format_span(seconds)}" if seconds > 0 else f"{format_span(-seconds)} ago"
