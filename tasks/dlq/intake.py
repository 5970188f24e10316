"""Intake: records of a source become dead letters with needs; after the commit the source is acknowledged and the bells ring."""

from __future__ import annotations

import hashlib
import json
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import structlog

from tasks.dlq.dead_letter import DeadLetter, Rejection
from tasks.dlq.errors import BrokerUnavailable, UnknownRoute, UnreadableBody
from tasks.dlq.ledger import bells
from tasks.dlq.ledger.letters import Recorded, record
from tasks.dlq.mapping import needs_of
from tasks.dlq.parameters import canonical_key, parse_parameters, shown

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from tasks.dlq.job import Wakeup
    from tasks.dlq.ledger import Ledger
    from tasks.dlq.mapping import BodyMapping
    from tasks.dlq.ports import Doorbell, Record, Source
    from tasks.dlq.route import Route

log = structlog.get_logger("redrive.intake")


@dataclass(frozen=True, kw_only=True)
class Reading:
    """How the records of one source are read: their route, the mapping to its parameters, and the largest body in bytes."""

    route: Route
    mapping: BodyMapping
    max_body: int


class Intake:
    """Writes dead letters into the ledger, and wakes workers for the jobs that they open."""

    def __init__(self, ledger: Ledger, routes: Mapping[str, Route], doorbell: Doorbell) -> None:
        self._ledger = ledger
        self._routes = routes
        self._doorbell = doorbell
        self._delays = {name: route.delay for name, route in routes.items()}

    def drain(
        self,
        source: Source,
        reading: Reading,
        *,
        seconds: float,
        wait: float = 0.0,
        stop: Callable[[], bool] = lambda: False,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> Recorded:
        """Take batches from `source` until it is empty, `seconds` are over or `stop` says so.

        Raises:
            OutOfReach: the source or the ledger does not answer. Nothing is lost: what was not acknowledged comes again.
        """
        total = Recorded()
        until = monotonic() + seconds
        while not stop():
            records = source.receive(wait=wait)
            if not records:
                break
            total += self.take(source.name, reading, records)
            source.acknowledge(records)
            if monotonic() >= until:
                break
        return total

    def take(self, source: str, reading: Reading, records: Sequence[Record]) -> Recorded:
        """Write one batch. On return it is committed: the caller may acknowledge it."""
        return self.record([read_record(source, reading, each) for each in records])

    def submit(
        self, source: str, identity: str, route: str, parameters: Mapping[str, Any], *, origin: Mapping[str, object]
    ) -> Recorded:
        """Write one failure that names its route and parameters itself (a Celery producer, the command line).

        Raises:
            UnknownRoute: no route has this name.
            InvalidParameter: a parameter is missing, unknown or not of its type.
        """
        target = self.route(route)
        key = canonical_key(parse_parameters(target.params, parameters))
        body = json.dumps({"route": route, "parameters": parameters}, default=str).encode()
        return self.record([DeadLetter(source=source, identity=identity, body=body, origin=origin, route=route, keys=[key])])

    def record(self, letters: Sequence[DeadLetter]) -> Recorded:
        """Write letters in one transaction; after its commit ring for the jobs that they opened."""
        recorded = self._ledger.transact(lambda tx: record(tx, letters, delays=self._delays))
        if recorded.opened:
            self._wake(recorded.opened)
        return recorded

    def route(self, name: str) -> Route:
        """Return the route of this name. Raises UnknownRoute."""
        if name not in self._routes:
            known = ", ".join(sorted(self._routes)) or "none is configured"
            raise UnknownRoute(f"unknown route {shown(name)}", hint=f"routes in redrive.toml: {known}")
        return self._routes[name]

    def _wake(self, opened: Sequence[tuple[str, int]]) -> None:
        """Ring within each route's window. What finds no room, or no broker, waits for a sweep: it is in the ledger."""
        by_route: dict[str, list[int]] = {}
        for name, job_id in opened:
            by_route.setdefault(name, []).append(job_id)
        for name, job_ids in sorted(by_route.items()):
            reserve = partial(bells.reserve, route=self._routes[name], job_ids=job_ids)
            ring_all(self._doorbell, self._ledger.transact(reserve))


def ring_all(doorbell: Doorbell, wakeups: Sequence[Wakeup]) -> int:
    """Ring; return how many went out. A broker that is gone costs a sweep, never a job: it is said once and left."""
    for sent, wakeup in enumerate(wakeups):
        try:
            doorbell.ring(wakeup.job_id, delay=wakeup.delay)
        except BrokerUnavailable as error:
            log.warning("wake-ups wait for a sweep", unsent=len(wakeups) - sent, error=error.message)
            return sent
    return len(wakeups)


def read_record(source: str, reading: Reading, record: Record) -> DeadLetter:
    """Return the dead letter that a record is: with its needs, or with the reason why it has none."""
    keys: list[str] = []
    rejection = None
    try:
        keys = [key for key, _ in needs_of(record.body, reading.mapping, reading.route, reading.max_body)]
    except UnreadableBody as error:
        detail = f"{error.message}; {error.hint}" if error.hint else error.message
        rejection = Rejection(reason=error.reason, detail=detail)
    return DeadLetter(
        source=source,
        identity=record.identity,
        stream=record.stream,
        origin=record.origin,
        body=record.body,
        route=reading.route.name,
        keys=keys,
        rejection=rejection,
    )


def submission_identity(message_id: str, route: str, parameters: Mapping[str, Any]) -> str:
    """Return the identity of a Celery submission: its message id alone is chosen by the producer, so the content counts too."""
    content = json.dumps([message_id, route, parameters], sort_keys=True, default=str)
    return hashlib.sha256(content.encode("utf-8", "backslashreplace")).hexdigest()
