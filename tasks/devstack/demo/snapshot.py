"""The state of a demo at one moment."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tasks.devstack.company.call_counter import CallCounter
from tasks.devstack.company.store import Progress

if TYPE_CHECKING:
    from collections.abc import Mapping

NO_CALLS = CallCounter().make_statistics()


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
        statistics: what the company's API has counted.
    """

    messages: int
    progress: Progress = field(default_factory=Progress)
    queued: int = 0
    wakeups: int = 0
    accepted: int = 0
    jobs: Mapping[str, int] = field(default_factory=dict)
    statistics: Mapping[str, Any] = field(default_factory=NO_CALLS.copy)

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
