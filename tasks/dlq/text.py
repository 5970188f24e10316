"""Values as people read them: escaped, short, on one line."""

from __future__ import annotations

import re
from datetime import datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_UNITS = (("d", 86_400), ("h", 3_600), ("m", 60), ("s", 1))
#: Where a spreadsheet would see a formula begin: at the start, or behind what may separate cells where the comma does not; also
#: after blanks and quotes, and in full width. See https://owasp.org/www-community/attacks/CSV_Injection
_FORMULA = re.compile(
    "(^|[,;|])(?=[ \"'`\u2018-\u201f\uff02\uff07]*[-=+@\u2212\ufe62\ufe63\ufe66\ufe6b\uff0b\uff0d\uff1d\uff20])"
)
_NUMBER = re.compile(r"[-+]?[0-9]+(\.[0-9]+)?", re.ASCII)


def escaped(value: Any) -> str:
    """Return the text with every character that does not print (line ends, ANSI, bidirectional marks) as its escape."""
    text = "" if value is None else str(value)
    return text if text.isprintable() else "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def defused(value: Any) -> str:
    """Return the text as a spreadsheet's cell: escaped, with an apostrophe where a formula would begin; numbers as they are."""
    text = escaped(value)
    return text if _NUMBER.fullmatch(text) else _FORMULA.sub(r"\1'", text)


def pairs(values: Mapping[str, Any]) -> str:
    """Return parameters as they are typed: "employeeId=1234 team=7"."""
    return " ".join(f"{name}={value}" for name, value in values.items())


def relative(moment: str | None, now: int) -> str:
    """Return a moment of the ledger (ISO 8601) beside its `now` (milliseconds): "in 12s", "now", "3m ago"."""
    if moment is None:
        return ""
    seconds = round(datetime.fromisoformat(moment).timestamp() - now / 1000)
    if seconds == 0:
        return "now"
    return f"in {span(seconds)}" if seconds > 0 else f"{span(-seconds)} ago"


def span(seconds: int) -> str:
    """Return whole seconds in the largest unit that they fill: "45s", "2m", "3d"."""
    unit, size = next(((unit, size) for unit, size in _UNITS if seconds >= size), _UNITS[-1])
    return f"{seconds // size}{unit}"


def listed(names: Sequence[str]) -> str:
    """Return names as a sentence has them: "a", "a and b", "a, b and c"."""
    return " and ".join([*filter(None, [", ".join(names[:-1])]), *names[-1:]])


def counted(count: int, noun: str) -> str:
    """Return the count with its noun: "1 job", "2 jobs"."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
