"""Reads the origin of a dead letter from its headers. It is bounded, and leaves out what it cannot read.

A writer that dead-letters a dead letter adds a hop. Spring, Streams and the binder append headers: the first value is the
origin, the last is the latest hop. SmallRye puts its headers before the existing ones. Connect keeps an existing header. The
exception is that of the latest hop. If the writer names a cause, the cause is used: the exception is often a wrapper of the
framework.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any, NamedTuple

from tasks.adapters.kafka.dialects import DIALECTS, Dialect, Numbers

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    Headers = Sequence[tuple[str, bytes | None]]

#: Characters of a text, such as an exception's message, and bytes of a key.
MAX_TEXT = 500
MAX_KEY = 1024
#: Other headers that are kept: their number, and bytes of each.
MAX_HEADERS = 32
MAX_HEADER = 256
_MAX_DIGITS = 19
_LONG = 8  # bytes
_NUMERIC = frozenset({"partition", "offset", "timestamp", "attempts"})
_TRACE = "traceparent"
_BLANK = " \t\r\n\0"
_BULKY = ("stacktrace", "springDeserializerException")


class _Hop(NamedTuple):
    dialect: Dialect
    #: The position of the topic's header in all headers.
    position: int
    #: The position in the hops of its dialect.
    number: int


class Recogniser:
    """Finds the hops of a record in its headers. `dialects` are the names to look for."""

    def __init__(self, dialects: Sequence[Dialect] = DIALECTS) -> None:
        self._topics = {name: dialect for dialect in dialects for name in dialect.names["topic"]}
        self._known = {name for dialect in dialects for names in dialect.names.values() for name in names}
        self._known |= {name for dialect in dialects for name in dialect.details.values()} | {_TRACE}

    def origin(self, headers: Headers) -> dict[str, Any]:
        """Return what the headers say, as values for JSON.

        Possible keys: `written_by`, `first`; after several hops `last` and `hops` (a hop has topic, partition, offset, timestamp,
        group); `exception` (class, message, wrapper), `attempts`, `details`, `traceparent`, and the other `headers`.
        """
        values: dict[str, list[bytes | None]] = {}
        hops: dict[str, list[_Hop]] = {}
        rest: dict[str, Any] = {}
        for position, (name, value) in enumerate(headers):
            if name not in self._known:
                self._keep(rest, name, value)
                continue
            values.setdefault(name, []).append(value)
            if dialect := self._topics.get(name):
                written = hops.setdefault(dialect.name, [])
                written.append(_Hop(dialect, position, len(written)))
        found = _describe(_in_order(hops), values)
        if _TRACE in values:
            found["traceparent"] = text(values[_TRACE][-1])
        if rest:
            found["headers"] = rest
        return {name: value for name, value in found.items() if value is not None}

    @staticmethod
    def _keep(rest: dict[str, Any], name: str, value: bytes | None) -> None:
        """Keep a header that no dialect has. The last value wins, as in Kafka's lastHeader."""
        if not name.endswith(_BULKY) and (name in rest or len(rest) < MAX_HEADERS):
            rest[name[:MAX_HEADER]] = shown(value, MAX_HEADER)


def _in_order(hops: Mapping[str, list[_Hop]]) -> list[_Hop]:
    """Return the hops, oldest first. Hops of writers that append come before those of a writer that prepends."""
    every = [hop for written in hops.values() for hop in written]
    if len(every) > 1:
        every.sort(key=lambda hop: (hop.dialect.newest_first, -hop.position if hop.dialect.newest_first else hop.position))
    return every


def _describe(hops: Sequence[_Hop], values: Mapping[str, list[bytes | None]]) -> dict[str, Any]:
    if not hops:
        return {}
    last = hops[-1]
    found: dict[str, Any] = {"written_by": last.dialect.name}
    # A hop without a topic is not a place.
    if places := [place for hop in hops if (place := _place(hop, values)).get("topic", "").strip(_BLANK)]:
        found["first"] = places[0]
        if len(places) > 1:
            found |= {"last": places[-1], "hops": len(places)}
    return found | _failure(last, values)


def _place(hop: _Hop, values: Mapping[str, list[bytes | None]]) -> dict[str, Any]:
    return _read(hop, ("topic", "partition", "offset", "timestamp", "group"), values)


def _failure(hop: _Hop, values: Mapping[str, list[bytes | None]]) -> dict[str, Any]:
    values_by_role = _read(hop, ("exception", "cause", "message", "cause_message", "attempts"), values)
    wrapper, message = values_by_role.get("exception"), values_by_role.get("message")
    exception = {"class": wrapper, "message": message}
    if cause := values_by_role.get("cause"):
        exception = {"class": cause, "message": values_by_role.get("cause_message", message)}
        if cause != wrapper:
            exception["wrapper"] = wrapper
    attempts = values_by_role.get("attempts")
    if attempts and hop.dialect.counts_next_attempt:
        attempts -= 1
    details = {name: text(_last(values.get(header))) for name, header in hop.dialect.details.items()}
    return {
        "exception": {name: value for name, value in exception.items() if value} or None,
        "attempts": attempts,
        "details": {name: value for name, value in details.items() if value} or None,
    }


def _read(hop: _Hop, roles: Sequence[str], values: Mapping[str, list[bytes | None]]) -> dict[str, Any]:
    """Return the values of these roles in a hop. A header that only some hops have written counts for the latest hop."""
    dialect = hop.dialect
    number = _NUMBERS[dialect.numbers]
    hops = len(values[dialect.names["topic"][0]])
    found = {}
    for role in roles:
        for name in dialect.names.get(role, ()):
            if there := values.get(name):
                latest = 0 if dialect.newest_first else -1
                value = there[hop.number if len(there) == hops else latest]
                read = number(value) if role in _NUMERIC else text(value)
                if read is not None:
                    found[role] = read
                break
    return found


def _last(values: list[bytes | None] | None) -> bytes | None:
    return values[-1] if values else None


def text(value: bytes | None) -> str | None:
    """Return a header's text, shortened. Bytes that are not UTF-8 are escaped."""
    if value is None:
        return None
    cut = value[: MAX_TEXT * 4].decode("utf-8", "backslashreplace")
    return cut if len(cut) <= MAX_TEXT else cut[: MAX_TEXT - 1] + "…"


def shown(value: bytes | None, most: int) -> Any:
    """Return bytes as text, or as `{"base64": …}`. If they are cut, `bytes` is their number."""
    if value is None:
        return None
    if len(value) <= most:
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            return {"base64": base64.b64encode(value).decode("ascii")}
    return {"base64": base64.b64encode(value[:most]).decode("ascii"), "bytes": len(value)}


def _binary(value: bytes | None) -> int | None:
    number = int.from_bytes(value, "big", signed=True) if value and len(value) <= _LONG else -1
    return number if number >= 0 else None  # writers use -1 for none


def _decimal(value: bytes | None) -> int | None:
    return int(value) if value and value.isdigit() and len(value) <= _MAX_DIGITS else None


def _either(value: bytes | None) -> int | None:
    """Try digits first: eight digits read as a binary number would be larger than any real offset."""
    found = _decimal(value)
    return _binary(value) if found is None else found


_NUMBERS: dict[Numbers, Callable[[bytes | None], int | None]] = {
    Numbers.BINARY: _binary,
    Numbers.TEXT: _decimal,
    Numbers.EITHER: _either,
}
