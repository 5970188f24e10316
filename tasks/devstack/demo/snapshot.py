"""What is seen of a demo at one moment."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tasks.devstack.company.store import Progress

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, kw_only=True)
class Calls:
    """What the company's API counted."""

    total: int = 0
    most: int = 0
    most_per_key: int = 0
    statuses: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """What the consumers, the queues, the ledger and the API say. `jobs` is by state; `queued` and `bells` are SQS messages."""

    messages: int
    progress: Progress = field(default_factory=Progress)
    queued: int = 0
    bells: int = 0
    accepted: int = 0
    jobs: Mapping[str, int] = field(default_factory=dict)
    calls: Calls = field(default_factory=Calls)

    @property
    def unsettled(self) -> int:
        """Jobs that are not over."""
        return sum(self.jobs.get(state, 0) for state in ("scheduled", "executing", "retryable"))

    @property
    def done(self) -> bool:
        """Whether everything that was produced has come to its end, and the queues are drained."""
        return (
            self.progress.handled == self.messages
            and self.accepted >= self.progress.dead_letters
            and not (self.queued or self.bells or self.unsettled)
        )
