"""Which values an import accepts: those that Redrive itself writes.

The rest of Redrive trusts the ledger. An unknown state, a time beyond the calendar or a key that is not a JSON object would
end a worker or a command during its work. So a value that a person edited is refused here. The rules follow from the column
types of the schema. The database checks the length of texts and the relations between rows.
"""

from __future__ import annotations

import base64
import json
import re
from typing import TYPE_CHECKING, Any, NamedTuple

from sqlalchemy import BigInteger, Boolean, Integer, LargeBinary, String

from tasks.dlq.alerts.alert import AlertState, Severity
from tasks.dlq.alerts.kinds import alert_kinds
from tasks.dlq.calls.outcome import Outcome
from tasks.dlq.job import State
from tasks.dlq.key import make_key
from tasks.dlq.ledger.column_types import Digest, HttpStatus, JsonObject, Key, Millis, Name, Offset, RowId, Word
from tasks.dlq.parameters import Text

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from sqlalchemy import Column

#: Milliseconds since the epoch: the end of the year 9999, where Python's calendar ends.
LAST_MOMENT = 253_402_300_799_999
#: Far above the ids and counts of any ledger, and far below where a sum overflows.
MAX_ID = 10**15
#: Smallest and largest number by column type.
_RANGES: Mapping[type, tuple[int, int]] = {
    RowId: (1, MAX_ID),
    Millis: (0, LAST_MOMENT),
    Offset: (0, (1 << 63) - 1),
    HttpStatus: (100, 999),
    BigInteger: (0, MAX_ID),
    Integer: (0, 10**9),
}
#: Pattern and description by column type.
_PATTERNS: Mapping[type, tuple[str, str]] = {
    Name: (r"[a-z0-9_]+", "a name of a-z 0-9 _"),
    Word: (r"[a-z0-9_-]+", "a word of a-z 0-9 _ -"),
    Digest: (r"[0-9a-f]{32}", "32 hexadecimal digits"),
}
#: The only words that a column may have.
_WORDS: Mapping[str, list[str]] = {
    "jobs.state": list(State),
    "jobs.outcome": list(Outcome),
    "attempts.outcome": list(Outcome),
    "alerts.kind": [kind.name for kind in alert_kinds()],
    "alerts.severity": list(Severity),
    "alerts.state": list(AlertState),
}
#: What the text of every parameter must be, whatever its type.
_PARAMETER = Text()


class Rule(NamedTuple):
    """Which values a column accepts, apart from null."""

    #: The accepted values, for a message.
    allowed: str
    #: Returns the value for the database from a value of JSON. Raises ValueError.
    parse: Callable[[Any], Any]
    #: Messages must not show a refused value.
    secret: bool = False


def rule_of(column: Column[Any]) -> Rule:
    """Return the rule of a column."""
    kind = type(column.type)
    if words := _WORDS.get(str(column)):
        return pattern_rule("|".join(map(re.escape, words)), f"one of {', '.join(words)}")
    if kind in _PATTERNS:
        return pattern_rule(*_PATTERNS[kind])
    if kind in _RANGES:
        least, most = _RANGES[kind]
        return number_rule(column.info.get("least", least), most)
    return next(rule for known, rule in _OTHERS.items() if issubclass(kind, known))


def number_rule(least: int, most: int) -> Rule:
    """Return the rule of a whole number in a range."""

    def parse(value: Any) -> int:
        if type(value) is int and least <= value <= most:  # isinstance() would accept a bool
            return value
        raise ValueError

    is_time = most == LAST_MOMENT
    return Rule("a time in milliseconds, up to the year 9999" if is_time else f"a whole number from {least} to {most}", parse)


def pattern_rule(pattern: str, allowed: str) -> Rule:
    """Return the rule of a text that a pattern matches as a whole."""

    def parse(value: Any) -> str:
        if isinstance(value, str) and re.fullmatch(pattern, value, re.ASCII):
            return value
        raise ValueError

    return Rule(allowed, parse)


def _parse_boolean(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    raise ValueError


def _parse_text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError  # noqa: TRY004 - the caller expects one kind of error
    value.encode()  # UnicodeEncodeError is a ValueError
    return value


def _parse_bytes(value: Any) -> bytes:
    return base64.b64decode(_parse_text(value), validate=True)


def _load_object(value: Any) -> dict[str, Any]:
    try:
        found = json.loads(_parse_text(value))
    except RecursionError:
        raise ValueError from None
    if isinstance(found, dict):
        return found
    raise ValueError


def _parse_object(value: Any) -> str:
    _load_object(value)
    return str(value)


def _parse_key(value: Any) -> str:
    parameters = _load_object(value)
    for name, text in parameters.items():
        if not (name.isascii() and name.isidentifier() and _PARAMETER.parse(text)):
            raise ValueError
    if make_key(parameters) == value:
        return str(value)
    raise ValueError


#: The rules of all other column types, the special ones first.
_OTHERS: Mapping[type, Rule] = {
    Key: Rule('a JSON object of texts as Redrive writes it, such as {"employeeId":"1234"}: names sorted, no blanks', _parse_key),
    JsonObject: Rule("a JSON object", _parse_object),
    String: Rule("text that UTF-8 can encode", _parse_text),
    LargeBinary: Rule("base64", _parse_bytes, secret=True),
    Boolean: Rule("true or false", _parse_boolean),
}
