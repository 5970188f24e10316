"""The ports: what the domain needs from sources and the broker. `tasks/adapters/` and `tasks/worker/` implement them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True, kw_only=True)
class Record:
    """One failed record as a source delivered it."""

    #: Made by the source from what the transport knows, never from an id that a producer chose.
    identity: str
    #: The original bytes.
    body: bytes
    #: Where the record came from; JSON-serialisable.
    origin: Mapping[str, object] = field(default_factory=dict)
    #: The source's own handle for the acknowledgement.
    receipt: object = None
    #: The part of the source that the record came from ("topic/partition"); empty if a source has no parts.
    stream: str = ""
    #: The record's place in its stream, if places are numbered.
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
        """Acknowledge records that the ledger has committed. Raises OutOfReach."""
        ...

    def give_back(self, records: Sequence[Record]) -> None:
        """Have these records delivered again soon, because the ledger could not take them.

        SQS makes them visible again. A Kafka source must seek back in each partition to the first of them: otherwise the next
        poll continues after them, and the next commit skips them. Raises OutOfReach.
        """
        ...

    def close(self) -> None:
        """Release connections. Another reader takes over what is not acknowledged."""
        ...


class WakeupSender(Protocol):
    """Wakes a worker for a job. A wake-up may be lost, late or doubled without harm."""

    def send(self, job_id: int, *, delay: float) -> None:
        """Send one wake-up, to arrive after `delay` seconds (at most 900). Raises BrokerUnavailable."""
        ...
