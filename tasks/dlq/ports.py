"""What the domain asks of the world. Each Protocol has its adapters in `tasks/adapters/`."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tasks.dlq.route import Route


# --- the application's sync API ------------------------------------------------------------------------------------


class Answer(StrEnum):
    """How far a call came."""

    ANSWERED = "answered"  # a complete status line and headers; the body up to the cap
    NETWORK = "network"  # no usable answer
    DEADLINE = "deadline"  # not ended in time
    NOT_SENT = "not_sent"  # nothing was written to a socket


@dataclass(frozen=True, kw_only=True)
class SyncRequest:
    """One call of a job. `attempt` counts from 1 over the job's life; `fence` only grows per key.

    `ends_by` is when the call must be over, by `tasks.dlq.clock.boottime`, however late it begins: its lease ends then.
    """

    route: Route
    parameters: Mapping[str, str]
    job_id: int
    attempt: int
    fence: int
    ends_by: float = math.inf


@dataclass(frozen=True, kw_only=True)
class SyncResult:
    """What came back. Never raised: a call always ends as one of these.

    `detail` is one line for people, without secrets. `retry_after` is the raw header. `unknown` tells that the API may still
    be working on the call (it was sent and no answer came). `short` is in words what this process had run out of when it could
    not send. `seconds` is measured by a monotonic clock.
    """

    answer: Answer
    status: int | None = None
    retry_after: str | None = None
    detail: str = ""
    unknown: bool = False
    short: str = ""
    seconds: float = 0.0


class SyncApi(Protocol):
    """Calls the application's own API for one entity."""

    def call(self, request: SyncRequest) -> SyncResult:
        """Make one HTTP call; return within the route's deadline plus one second, whatever the server does."""
        ...


# --- sources -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Record:
    """One failed record as a source delivered it.

    `identity` is made by the source from what the transport knows (never from an id that a producer chose). `body` are the
    original bytes. `origin` is JSON-serialisable. `receipt` is the source's own handle for the acknowledgement.
    `stream` is the part of the source that the record came from ("topic/partition"; empty where a source has none), `offset`
    its place there, where the places of a stream are numbered.
    """

    identity: str
    body: bytes
    origin: Mapping[str, object] = field(default_factory=dict)
    receipt: object = None
    stream: str = ""
    offset: int | None = None


class Source(Protocol):
    """Where failures come from."""

    @property
    def name(self) -> str:
        """The source's name in redrive.toml."""
        ...

    def receive(self, *, wait: float) -> Sequence[Record]:
        """Return the next batch; wait up to `wait` seconds for the first record. Raises OutOfReach."""
        ...

    def acknowledge(self, records: Sequence[Record]) -> None:
        """Tell the transport that these records are kept: called only after the ledger's commit. Raises OutOfReach."""
        ...

    def give_back(self, records: Sequence[Record]) -> None:
        """Let the transport hand these records out again soon: they were received, and the ledger could not keep them.

        SQS makes them visible again. A Kafka source must seek back, in each partition, to the first of them: else the next
        poll goes on behind them, and the next commit passes over them. Raises OutOfReach.
        """
        ...


# --- the doorbell --------------------------------------------------------------------------------------------------


class Doorbell(Protocol):
    """Wakes a worker for a job. A wake-up may be lost, late or doubled without harm."""

    def ring(self, job_id: int, *, delay: float) -> None:
        """Send one wake-up, to arrive after `delay` seconds (at most 900). Raises BrokerUnavailable."""
        ...


# --- telling people ------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Alert:
    """Something that people should know: told once when it begins and once when it is over.

    `kind` is "failure_group", "burst", "route_paused" or "breaker_open". `fingerprint` identifies the alert for ever: the same
    trouble has the same one. `facts` are small values for people and machines; neither they nor the texts hold secrets or bodies.
    """

    kind: str
    fingerprint: str
    title: str
    text: str
    route: str
    over: bool = False
    count: int = 0
    facts: Mapping[str, str | int | float] = field(default_factory=dict)


class AlertSink(Protocol):
    """Passes an alert on. Failing is its own affair: it never delays or fails a job."""

    @property
    def name(self) -> str:
        """A stable word without blanks: the ledger remembers by it which sink took an alert."""
        ...

    def send(self, alert: Alert) -> bool:
        """Return True when the alert was delivered (or needs no delivery); False to be asked again by the next sweep."""
        ...
