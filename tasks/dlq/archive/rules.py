"""Which values an import accepts: those that Redrive itself writes.

The rest of Redrive trusts the ledger. An unknown state, a time beyond the calendar or a key that is not a JSON object would
end a worker or a command during its work. So a value that a person edited is refused here. The rules follow from the column
types of the schema. The database checks the length of texts and the relations between rows.
"""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, create_model
from sqlalchemy import BigInteger, Boolean, Integer, LargeBinary, String

from tasks.dlq.alerts.alert import AlertState, Severity
from tasks.dlq.alerts.kinds import alert_kinds
from tasks.dlq.calls.outcome import Outcome
from tasks.dlq.job import State
from tasks.dlq.key import make_key
from tasks.dlq.ledger.column_types import Digest, HttpStatus, JsonObject, Key, Millis, Name, Offset, RowId, Word
from tasks.dlq.parameters import Text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sqlalchemy import Column

#: Milliseconds since the epoch: the end of the year 9999, where Python's calendar ends.
LAST_MOMENT = 253_402_300_799_999
#: Far above the ids and counts of any ledger, and far below where a sum overflows.
MAX_ID = 10**15
#: What the text of every parameter must be, whatever its type.
_PARAMETER = Text()


def row_model(table: str, columns: Iterable[Column[Any]]) -> type[BaseModel]:
    """Return the model of a table's rows, as JSON has them."""
    fields: dict[str, Any] = {column.name: (value_type(column), ...) for column in columns}
    return create_model(table, __config__=ConfigDict(strict=True, extra="forbid"), **fields)


def value_type(column: Column[Any]) -> Any:
    """Return the type of a column's values, with pydantic's constraints."""
    kind = type(column.type)
    if words := _WORDS.get(str(column)):
        found: Any = Literal[tuple(map(str, words))]
    elif kind in _RANGES:
        least, most = _RANGES[kind]
        found = Annotated[int, Field(ge=column.info.get("least", least), le=most)]
    else:
        found = next(found for known, found in _TYPES.items() if issubclass(kind, known))
    return found | None if column.nullable else found


def _load_object(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    if isinstance(found, dict):
        return found
    raise ValueError("it must be a JSON object")


def _check_object(text: str) -> str:
    _load_object(text)
    return text


def _check_key(text: str) -> str:
    parameters = _load_object(text)
    valid = all(name.isascii() and name.isidentifier() and _PARAMETER.parse(value) for name, value in parameters.items())
    if valid and make_key(parameters) == text:
        return text
    raise ValueError('it must be as Redrive writes it, such as {"employeeId":"1234"}: names sorted, no blanks')


def _check_text(text: str) -> str:
    text.encode()  # UnicodeEncodeError is a ValueError
    return text


def _decode(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


#: The only words that a column may have.
_WORDS: Mapping[str, Iterable[str]] = {
    "jobs.state": State,
    "jobs.outcome": Outcome,
    "attempts.outcome": Outcome,
    "alerts.kind": [kind.name for kind in alert_kinds()],
    "alerts.severity": Severity,
    "alerts.state": AlertState,
}
#: The smallest and the largest number by column type.
_RANGES: Mapping[type, tuple[int, int]] = {
    RowId: (1, MAX_ID),
    Millis: (0, LAST_MOMENT),
    Offset: (0, (1 << 63) - 1),
    HttpStatus: (100, 999),
    BigInteger: (0, MAX_ID),
    Integer: (0, 10**9),
}
#: All other column types, special ones first.
_TYPES: Mapping[type, Any] = {
    Name: Annotated[str, Field(pattern="^[a-z0-9_]+$")],
    Word: Annotated[str, Field(pattern="^[a-z0-9_-]+$")],
    Digest: Annotated[str, Field(pattern="^[0-9a-f]{32}$")],
    Key: Annotated[str, AfterValidator(_check_key)],
    JsonObject: Annotated[str, AfterValidator(_check_object)],
    String: Annotated[str, AfterValidator(_check_text)],
    LargeBinary: Annotated[str, AfterValidator(_decode)],
    Boolean: bool,
}
