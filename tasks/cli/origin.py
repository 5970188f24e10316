"""The origin of a dead letter, for people. Sources differ in what they record; missing parts are left out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


def summarize(origin: Mapping[str, Any]) -> str:
    """Return the place and the exception in short: "employees/3@41 StaleObjectStateException"."""
    place = _first_table(origin, "first", "attributes") or origin
    where = str(place["topic"]) if place.get("topic") else ""
    if where and place.get("partition") is not None:
        where += f"/{place['partition']}"
    if where and place.get("offset") is not None:
        where += f"@{place['offset']}"
    failure = origin.get("exception")
    name = failure.get("class") if isinstance(failure, dict) else failure or place.get("exception")
    return " ".join(filter(None, [where, str(name or "").rpartition(".")[2]]))


def list_facts(origin: Mapping[str, Any]) -> dict[str, Any]:
    """Return all values by dotted names: "first.topic", "exception.class", "headers.kind"."""
    return dict(_flatten(origin, ""))


def _first_table(origin: Mapping[str, Any], *names: str) -> Mapping[str, Any] | None:
    return next((origin[name] for name in names if isinstance(origin.get(name), dict)), None)


def _flatten(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict) and value:
        for key, inner in value.items():
            yield from _flatten(inner, f"{name}.{key}" if name else str(key))
    else:
        yield name, value
