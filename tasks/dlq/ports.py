"""What the domain asks of the world. Each Protocol has its adapters in `tasks/adapters/`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


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


class Doorbell(Protocol):
    """Wakes a worker for a job. A wake-up may be lost, late or doubled without harm."""

    def ring(self, job_id: int, *, delay: float) -> None:
        """Send one wake-up, to arrive after `delay` seconds (at most 900). Raises BrokerUnavailable."""
        ...
