"""Time limits. Each follows from the deadline and drain of the routes and from the worker's slice.

Celery's settings, the check of `broker.visibility_timeout`, the stop grace and `redrive doctor` use these values.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from tasks.dlq.calls.route import LEASE_MARGIN, LEASE_START

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tasks.dlq.calls.route import Route

#: Seconds that a transaction may wait for another writer: SQLite's busy timeout.
LEDGER_WAIT = 15.0
#: The longest DelaySeconds of SQS: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessage.html
LONGEST_DELAY = 900.0
#: The shortest visibility timeout in seconds, and how much longer it is than a worker can be busy with a wake-up.
_VISIBILITY = 300.0
_VISIBILITY_MARGIN = 30.0


@dataclass(frozen=True, kw_only=True)
class Limit:
    """One limit, in words for people."""

    name: str
    seconds: float
    #: How it is computed.
    formula: str
    #: What it limits.
    meaning: str


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The limits of one configuration, in seconds."""

    slice: float
    routes: Mapping[str, Route]
    #: The configured visibility timeout; None if none is configured.
    visibility: float | None = None

    @cached_property
    def lease(self) -> float:
        """The longest lease of a route."""
        return max((route.lease for route in self.routes.values()), default=0.0)

    @property
    def busy(self) -> float:
        """How long a worker may be busy with one wake-up: its last call may begin at the end of the slice."""
        return self.slice + self.lease

    @property
    def visibility_timeout(self) -> int:
        """How long SQS hides a wake-up. It is longer than a worker can be busy, or SQS would deliver the wake-up twice."""
        return round(self.visibility or max(_VISIBILITY, self.busy + _VISIBILITY_MARGIN))

    @property
    def hard(self) -> int:
        """When a task's process is killed: at this moment SQS delivers its message again."""
        return self.visibility_timeout

    @property
    def soft(self) -> int:
        """When a wake-up's task is interrupted: between busy and the hard limit."""
        return math.ceil(min(self.busy + LEDGER_WAIT, (self.busy + self.hard) / 2))

    @property
    def grace(self) -> float:
        """How long a worker may take to stop: its open call, and a slow ledger to settle it."""
        return self.lease + LEDGER_WAIT

    def refusal(self) -> str | None:
        """Return why the configured visibility timeout is too short; None if it is not."""
        if self.visibility is None or self.visibility >= self.busy:
            return None
        return f"must be at least a slice and the longest lease of a route: {self.busy:g}s"

    def explained(self) -> Iterator[Limit]:
        """Yield every limit, each after those that it is computed from."""
        for name, route in self.routes.items():
            formula = f"{LEASE_START:g} to begin + {route.deadline:g} deadline + {route.drain:g} drain + {LEASE_MARGIN:g} margin"
            meaning = "after that, the job of a dead worker is taken back"
            yield Limit(name=f"lease of {name}", seconds=route.lease, formula=formula, meaning=meaning)
        yield Limit(name="slice", seconds=self.slice, formula="worker.slice", meaning="after that, a wake-up begins no call")
        yield Limit(
            name="busy",
            seconds=self.busy,
            formula=f"{self.slice:g} slice + {self.lease:g} longest lease",
            meaning="the longest time for a wake-up",
        )
        yield Limit(
            name="soft limit",
            seconds=self.soft,
            formula=f"busy + {LEDGER_WAIT:g} for a slow ledger; at most halfway to the hard limit",
            meaning="a wake-up that hangs is interrupted",
        )
        yield Limit(name="hard limit", seconds=self.hard, formula="visibility timeout", meaning="a task that hangs is killed")
        by_itself = f"the larger of {_VISIBILITY:g} and busy + {_VISIBILITY_MARGIN:g}"
        yield Limit(
            name="visibility timeout",
            seconds=self.visibility_timeout,
            formula=by_itself if self.visibility is None else "broker.visibility_timeout",
            meaning="after that, SQS delivers a message again",
        )
        yield Limit(
            name="stop grace",
            seconds=self.grace,
            formula=f"{self.lease:g} longest lease + {LEDGER_WAIT:g} for a slow ledger",
            meaning="give a worker this long to stop",
        )
        yield Limit(
            name="longest delay",
            seconds=LONGEST_DELAY,
            formula="the maximum of SQS",
            meaning="jobs that are due later wait in the ledger",
        )
