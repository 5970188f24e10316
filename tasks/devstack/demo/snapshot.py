"""The state of a demo at one moment."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tasks.devstack.company.store import Progress

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, kw_only=True)
class Calls:
    """The counts of the company's API.

    Attributes:
        total: number of calls.
        most: highest number of calls that were open at once.
        most_per_key: the same for one employee.
        statuses: number of calls by HTTP status.
    """

    total: int = 0
    most: int = 0
    most_per_key: int = 0
    statuses: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """The state of a demo at one moment.

    Attributes:
        messages: number of Kafka messages in the whole demo.
        progress: what the consumers have recorded.
        queued: number of dead letters on SQS.
        wakeups: number of wake-ups on SQS.
        accepted: number of dead letters in the ledger.
        jobs: number of jobs by state.
        calls: the counts of the company's API.
    """

    messages: int
    progress: Progress = field(default_factory=Progress)
    queued: int = 0
    wakeups: int = 0
    accepted: int = 0
    jobs: Mapping[str, int] = field(default_factory=dict)
    calls: Calls = field(default_factory=Calls)

    @property
    def unfinished(self) -> int:
        """Number of jobs that wait or run."""
        return sum(self.jobs.get(state, 0) for state in ("scheduled", "executing", "retryable"))

    @property
    def done(self) -> bool:
        """Whether all messages are handled, all dead letters accepted, all jobs finished and all queues empty."""
        return (
            self.progress.handled == self.messages
            and self.accepted >= self.progress.dead_letters
            and not (self.queued or self.wakeups or self.unfinished)
        )
