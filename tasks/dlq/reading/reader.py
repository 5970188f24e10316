"""Reads a record into a dead letter: with its needs, or with the reason why it is rejected. No body raises an error."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol

from tasks.dlq.dead_letter import DeadLetter, Rejection
from tasks.dlq.errors import InvalidParameter, UnknownRoute, UnreadableBody
from tasks.dlq.json_body import read_json
from tasks.dlq.key import make_key
from tasks.dlq.parameters import parse_parameters
from tasks.dlq.reading.mapping import map_needs
from tasks.dlq.reading.unwrapping import unwrap
from tasks.dlq.text import show_value

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tasks.dlq.calls.route import Route
    from tasks.dlq.ports import Record
    from tasks.dlq.reading.mapping import BodyMapping, Condition

#: The largest submission in bytes: the limit of an SQS message.
MAX_SUBMISSION = 1 << 20


class Reader(Protocol):
    """Reads the records of a source."""

    def read(self, source: str, record: Record) -> DeadLetter:
        """Return the record as a dead letter."""
        ...


@dataclass(frozen=True)
class RouteChoice:
    """A route, and the mapping to its parameters, for the dead letters that meet a condition."""

    route: Route
    mapping: BodyMapping
    #: None takes every dead letter.
    when: Condition | None = None


@dataclass(frozen=True, kw_only=True)
class BodyReader:
    """Reads JSON bodies: unwraps them, and maps them by the first choice whose condition is true."""

    choices: Sequence[RouteChoice]
    #: Bytes of a body.
    max_body: int
    #: The steps of `tasks.dlq.reading.unwrapping`.
    unwrap: Sequence[str] = ()

    def read(self, source: str, record: Record) -> DeadLetter:
        try:
            document = self.document(record.body)
            choice = self._choice(document, record)
            needs = map_needs(document, choice.mapping, choice.route)
        except UnreadableBody as error:
            return reject(source, record, error)
        return _letter(source, record, route=choice.route.name, keys=[key for key, _ in needs])

    def document(self, body: bytes) -> Any:
        """Return the JSON document in a body. Raises UnreadableBody."""
        return read_json(unwrap(body, self.unwrap, max_bytes=self.max_body), max_bytes=self.max_body)

    def _choice(self, document: Any, record: Record) -> RouteChoice:
        for choice in self.choices:
            if choice.when is None or choice.when.holds(document, record.origin):
                return choice
        raise UnreadableBody("no-route", "no rule of its source chooses a route", hint="see `choose` in redrive.toml")


@dataclass(frozen=True, kw_only=True)
class SubmissionReader:
    """Reads submissions, which name their own route: `{"route": …, "parameters": {…}}`."""

    routes: Mapping[str, Route]

    def read(self, source: str, record: Record) -> DeadLetter:
        """Return the submission as a dead letter. Its identity includes the content, because a producer chose the id."""
        record = _identified(record)
        try:
            document = read_json(record.body, max_bytes=MAX_SUBMISSION)
            fields = document if isinstance(document, dict) else {}
            route, key = self.resolve(fields.get("route"), fields.get("parameters"))
        except UnreadableBody as error:
            return reject(source, record, error)
        except (UnknownRoute, InvalidParameter) as error:
            reason = "unknown-route" if isinstance(error, UnknownRoute) else "invalid-parameter"
            return reject(source, record, UnreadableBody(reason, error.message, hint=error.hint))
        return _letter(source, record, route=route.name, keys=[key])

    def resolve(self, name: Any, parameters: Any) -> tuple[Route, str]:
        """Return the route of this name, and the key of these parameters.

        Raises:
            UnknownRoute: no route has this name.
            InvalidParameter: a parameter is missing, unknown or not of its type.
        """
        if not isinstance(name, str) or name not in self.routes:
            known = ", ".join(sorted(self.routes)) or "none; add [routes.NAME] to redrive.toml"
            raise UnknownRoute(f"unknown route {show_value(name)}", hint=f"routes: {known}")
        if not isinstance(parameters, dict):
            raise InvalidParameter(
                f"the parameters are {show_value(parameters)}", hint="they must be an object of names and values"
            )
        return self.routes[name], make_key(parse_parameters(self.routes[name].params, parameters))


def _identified(record: Record) -> Record:
    digest = hashlib.sha256(record.identity.encode("utf-8", "backslashreplace") + b"\0" + record.body).hexdigest()
    return replace(record, identity=digest)


def encode_submission(route: Any, parameters: Any) -> bytes:
    """Return the body of a submission: the same bytes for the same content. Wrong content is refused when it is read."""
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


def reject(source: str, record: Record, error: UnreadableBody) -> DeadLetter:
    """Return the rejected dead letter of a record that cannot be read."""
    detail = f"{error.message}; {error.hint}" if error.hint else error.message
    return _letter(source, record, rejection=Rejection(reason=error.reason, detail=detail))
