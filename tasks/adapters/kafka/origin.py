"""Where a dead letter comes from, told by its headers: pure, bounded, and silent about what cannot be read.

Whoever dead-letters a record that was dead-lettered before adds a hop. Spring, Streams and the binder append their headers, so
the first value is the origin and the last one the latest hop; SmallRye puts its own before those that were there; Connect
leaves a header alone that is there already. The exception is that of the latest hop. Its cause is the real one where the
writer names it: the exception itself is mostly the framework's wrapper.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tasks.adapters.kafka.dialects import DIALECTS, Dialect, Numbers

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    Headers = Sequence[tuple[str, bytes | None]]

#: Characters of a text, such as an exception's message, and bytes of a key.
MAX_TEXT = 500
MAX_KEY = 1024
#: Further headers are kept for people and for rules, as far as they go: so many, of so many bytes each.
MAX_HEADERS = 32
MAX_HEADER = 256
_MAX_DIGITS = 19
_LONG = 8  # bytes
_TRACE = "traceparent"
_BULKY = ("stacktrace", "springDeserializerException")


@dataclass(frozen=True)
class _Hop:
    dialect: Dialect
    position: int  # of the topic's header, among all
    index: int  # among the values of its dialect
    of: int  # so many values


class Recogniser:
    """Finds the hops of a record in its headers. `dialects` are the names to look for."""

    def __init__(self, dialects: Sequence[Dialect] = DIALECTS) -> None:
        self._topics = {name: dialect for dialect in dialects for name in dialect.names["topic"]}
        self._known = {name for dialect in dialects for names in dialect.names.values() for name in names}
        self._known |= {name for dialect in dialects for name in dialect.details.values()}

    def origin(self, headers: Headers) -> dict[str, Any]:
        """Return what the headers tell, JSON-serialisable and without what they do not tell.

        `written_by`, `first` and, after several hops, `last` and `hops` (a hop has topic, partition, offset, timestamp, group),
        `exception` (class, message, wrapper), `attempts`, `details`, `traceparent`, and the remaining `headers`.
        """
        values: dict[str, list[bytes | None]] = {}
        for name, value in headers:
            values.setdefault(name, []).append(value)
        found: dict[str, Any] = {}
        if hops := self._hops(headers):
            first, last = hops[0], hops[-1]
            found["written_by"] = last.dialect.name
            found["first"] = _place(first, values)
            if len(hops) > 1:
                found["last"] = _place(last, values)
                found["hops"] = len(hops)
            found |= _failure(last, values)
        if _TRACE in values:
            found["traceparent"] = text(values[_TRACE][-1])
        if rest := self._rest(headers):
            found["headers"] = rest
        return {name: value for name, value in found.items() if value is not None}

    def _hops(self, headers: Headers) -> list[_Hop]:
        """Return the hops, oldest first. What writers that append have written comes before what one that prepends has."""
        positions: dict[str, tuple[Dialect, list[int]]] = {}
        for position, (name, _) in enumerate(headers):
            if dialect := self._topics.get(name):
                positions.setdefault(dialect.name, (dialect, []))[1].append(position)
        hops = [
            _Hop(dialect, position, index, len(where))
            for dialect, where in positions.values()
            for index, position in enumerate(where)
        ]
        return sorted(
            hops, key=lambda hop: (hop.dialect.newest_first, -hop.position if hop.dialect.newest_first else hop.position)
        )

    def _rest(self, headers: Headers) -> dict[str, Any]:
        rest: dict[str, Any] = {}
        for name, value in headers:
            if name in self._known or name == _TRACE or name.endswith(_BULKY):
                continue
            if name not in rest and len(rest) >= MAX_HEADERS:
                break
            rest[name[:MAX_HEADER]] = shown(value, MAX_HEADER)  # the last value stands, as for Kafka's own lastHeader
        return rest


def _place(hop: _Hop, values: Mapping[str, list[bytes | None]]) -> dict[str, Any]:
    number = _NUMBERS[hop.dialect.numbers]
    place = {
        "topic": text(_value(hop, "topic", values)),
        "partition": number(_value(hop, "partition", values)),
        "offset": number(_value(hop, "offset", values)),
        "timestamp": number(_value(hop, "timestamp", values)),
        "group": text(_value(hop, "group", values)),
    }
    return {name: value for name, value in place.items() if value is not None}


def _failure(hop: _Hop, values: Mapping[str, list[bytes | None]]) -> dict[str, Any]:
    wrapper, cause = text(_value(hop, "exception", values)), text(_value(hop, "cause", values))
    message, reason = text(_value(hop, "message", values)), text(_value(hop, "cause_message", values))
    exception = {
        "class": cause or wrapper,
        "message": (reason or message) if cause else message,
        "wrapper": wrapper if cause and cause != wrapper else None,
    }
    attempts = _NUMBERS[hop.dialect.numbers](_value(hop, "attempts", values))
    if attempts and hop.dialect.attempt_to_come:
        attempts -= 1
    details = {name: text(_last(values.get(header))) for name, header in hop.dialect.details.items()}
    return {
        "exception": {name: value for name, value in exception.items() if value} or None,
        "attempts": attempts,
        "details": {name: value for name, value in details.items() if value} or None,
    }


def _value(hop: _Hop, role: str, values: Mapping[str, list[bytes | None]]) -> bytes | None:
    """Return a hop's value of a role. One that not every hop has written is that of the latest: which else, nobody can tell."""
    for name in hop.dialect.names.get(role, ()):
        if there := values.get(name):
            if len(there) == hop.of:
                return there[hop.index]
            return there[0] if hop.dialect.newest_first else there[-1]
    return None


def _last(values: list[bytes | None] | None) -> bytes | None:
    return values[-1] if values else None


def text(value: bytes | None) -> str | None:
    """Return a header's text, cut; what is not UTF-8 becomes visible as such."""
    if value is None:
        return None
    cut = value[: MAX_TEXT * 4].decode("utf-8", "backslashreplace")
    return cut if len(cut) <= MAX_TEXT else cut[: MAX_TEXT - 1] + "…"


def shown(value: bytes | None, most: int) -> Any:
    """Return bytes as text or, where they are none, as `{"base64": …}`; cut ones tell how many `bytes` there were."""
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
    return number if number >= 0 else None  # -1 is the writers' word for none


def _decimal(value: bytes | None) -> int | None:
    return int(value) if value and value.isdigit() and len(value) <= _MAX_DIGITS else None


def _either(value: bytes | None) -> int | None:
    """Eight bytes that are digits would be an offset of three trillion millions: nobody has written that in binary."""
    found = _decimal(value)
    return _binary(value) if found is None else found


_NUMBERS: dict[Numbers, Callable[[bytes | None], int | None]] = {
    Numbers.BINARY: _binary,
    Numbers.TEXT: _decimal,
    Numbers.EITHER: _either,
}
