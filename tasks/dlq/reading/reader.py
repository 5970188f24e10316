"""Reading: a record becomes a dead letter, with its needs or the reason why it has none. No body makes it raise."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from tasks.dlq.dead_letter import DeadLetter, Rejection
from tasks.dlq.errors import InvalidParameter, UnknownRoute, UnreadableBody
from tasks.dlq.json_body import read_json
from tasks.dlq.parameters import canonical_key, parse_parameters, shown
from tasks.dlq.reading.mapping import needs_of
from tasks.dlq.reading.unwrapping import unwrapped

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tasks.dlq.calls.route import Route
    from tasks.dlq.ports import Record
    from tasks.dlq.reading.mapping import BodyMapping, Condition

#: The largest submission in bytes: what one SQS message holds.
MAX_SUBMISSION = 1 << 20


class Reader(Protocol):
    """How the records of a source are read."""

    def read(self, source: str, record: Record) -> DeadLetter:
        """Return the dead letter that the record is."""
        ...


@dataclass(frozen=True)
class Choice:
    """A route with the mapping to its parameters, taken by the dead letters for which `when` holds; None is all of them."""

    route: Route
    mapping: BodyMapping
    when: Condition | None = None


@dataclass(frozen=True, kw_only=True)
class BodyReader:
    """Reads JSON bodies: takes off what is `unwrap`ped, and maps the rest by the first of the `choices` that holds.

    `max_body` is in bytes.
    """

    choices: Sequence[Choice]
    max_body: int
    unwrap: Sequence[str] = ()

    def read(self, source: str, record: Record) -> DeadLetter:
        """Return the dead letter that the record is."""
        try:
            document = self.document(record.body)
            choice = self._choice(document, record)
            needs = needs_of(document, choice.mapping, choice.route)
        except UnreadableBody as error:
            return rejected(source, record, error)
        return _letter(source, record, route=choice.route.name, keys=[key for key, _ in needs])

    def document(self, body: bytes) -> Any:
        """Return the JSON document in a body. Raises UnreadableBody."""
        return read_json(unwrapped(body, self.unwrap, max_bytes=self.max_body), max_bytes=self.max_body)

    def _choice(self, document: Any, record: Record) -> Choice:
        for choice in self.choices:
            if choice.when is None or choice.when.holds(document, record.origin):
                return choice
        raise UnreadableBody("no-route", "no rule of the source chooses a route for it", hint="see `choose` in redrive.toml")


@dataclass(frozen=True, kw_only=True)
class SubmissionReader:
    """Reads submissions: `{"route": …, "parameters": {…}}`, which name their own route."""

    routes: Mapping[str, Route]

    def read(self, source: str, record: Record) -> DeadLetter:
        """Return the dead letter that the submission is; its identity covers what it says, for a producer chose its id."""
        record = _identified(record)
        try:
            document = read_json(record.body, max_bytes=MAX_SUBMISSION)
            fields = document if isinstance(document, dict) else {}
            route, key = self.needed(fields.get("route"), fields.get("parameters"))
        except UnreadableBody as error:
            return rejected(source, record, error)
        except (UnknownRoute, InvalidParameter) as error:
            reason = "unknown-route" if isinstance(error, UnknownRoute) else "invalid-parameter"
            return rejected(source, record, UnreadableBody(reason, error.message, hint=error.hint))
        return _letter(source, record, route=route.name, keys=[key])

    def needed(self, name: Any, parameters: Any) -> tuple[Route, str]:
        """Return the route of this name, and the key that these parameters make.

        Raises:
            UnknownRoute: no route has this name.
            InvalidParameter: a parameter is missing, unknown or not of its type.
        """
        if not isinstance(name, str) or name not in self.routes:
            known = ", ".join(sorted(self.routes)) or "none; add [routes.NAME] to redrive.toml"
            raise UnknownRoute(f"unknown route {shown(name)}", hint=f"routes: {known}")
        if not isinstance(parameters, dict):
            raise InvalidParameter(f"the parameters are {shown(parameters)}", hint="they must be an object of names and values")
        return self.routes[name], canonical_key(parse_parameters(self.routes[name].params, parameters))


def _identified(record: Record) -> Record:
    digest = hashlib.sha256(record.identity.encode("utf-8", "backslashreplace") + b"\0" + record.body).hexdigest()
    return replace(record, identity=digest)


def submission(route: Any, parameters: Any) -> bytes:
    """Return the body of a submission, the same bytes for the same content. Takes whatever JSON can hold: reading refuses."""
    return json.dumps({"route": route, "parameters": parameters}, sort_keys=True, separators=(",", ":")).encode()


def _letter(source: str, record: Record, **what: Any) -> DeadLetter:
    return DeadLetter(
        source=source,
        identity=record.identity,
        stream=record.stream,
        offset=record.offset,
        origin=record.origin,
        body=record.body,
        **what,
    )


def rejected(source: str, record: Record, error: UnreadableBody) -> DeadLetter:
    """Return the dead letter of a record that cannot be read, with the reason why."""
    detail = f"{error.message}; {error.hint}" if error.hint else error.message
    return _letter(source, record, rejection=Rejection(reason=error.reason, detail=detail))
