"""How long things may take: each limit follows from a route's deadline and drain and the worker's slice, and nothing else.

Celery's settings, the check of `broker.visibility_timeout`, the stop grace and `redrive doctor` all take theirs from here.
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

#: Seconds that a transaction may have to wait for another writer: SQLite's busy timeout.
LEDGER_WAIT = 15.0
#: The longest DelaySeconds of SQS: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_SendMessage.html
LONGEST_DELAY = 900.0
#: Seconds for which SQS hides a wake-up at least, and what it hides one longer than a worker can be busy with it.
_VISIBILITY = 300.0
_VISIBILITY_MARGIN = 30.0


@dataclass(frozen=True, kw_only=True)
class Limit:
    """One limit in seconds: what it is made of, and what it is good for, in words for people."""

    name: str
    seconds: float
    formula: str
    meaning: str


@dataclass(frozen=True, kw_only=True)
class Limits:
    """The limits of one configuration, in seconds. `visibility` is what a person has set, None when nobody has."""

    slice: float
    routes: Mapping[str, Route]
    visibility: float | None = None

    @cached_property
    def lease(self) -> float:
        """The longest lease of a route."""
        return max((route.lease for route in self.routes.values()), default=0.0)

    @property
    def busy(self) -> float:
        """How long a worker may be busy with one wake-up: the last call begins as the slice ends."""
        return self.slice + self.lease

    @property
    def visibility_timeout(self) -> int:
        """How long SQS hides a wake-up: longer than a worker can be busy with it, or it is handed out twice."""
        return round(self.visibility or max(_VISIBILITY, self.busy + _VISIBILITY_MARGIN))

    @property
    def hard(self) -> int:
        """When a task's process is killed: SQS hands its message out again at that moment."""
        return self.visibility_timeout

    @property
    def soft(self) -> int:
        """When a wake-up is broken off: between busy and the hard limit, however near these are."""
        return math.ceil(min(self.busy + LEDGER_WAIT, (self.busy + self.hard) / 2))

    @property
    def grace(self) -> float:
        """How long a worker that is told to stop may take: the call in hand, and a ledger that is slow to settle it."""
        return self.lease + LEDGER_WAIT

    def refusal(self) -> str | None:
        """Return why the visibility timeout that somebody has set will not do; None when it will."""
        if self.visibility is None or self.visibility >= self.busy:
            return None
        return f"must be at least a slice and the longest lease of a route: {self.busy:g}s"

    def explained(self) -> Iterator[Limit]:
        """Yield every limit, each after those that it is made of."""
        for name, route in self.routes.items():
            formula = f"{LEASE_START:g} to begin + {route.deadline:g} deadline + {route.drain:g} drain + {LEASE_MARGIN:g} margin"
            meaning = "after that, a call whose worker died is taken back"
            yield Limit(name=f"lease of {name}", seconds=route.lease, formula=formula, meaning=meaning)
        yield Limit(name="slice", seconds=self.slice, formula="worker.slice", meaning="a wake-up begins no call later")
        yield Limit(
            name="busy",
            seconds=self.busy,
            formula=f"{self.slice:g} slice + {self.lease:g} longest lease",
            meaning="a wake-up takes no longer",
        )
        yield Limit(
            name="soft limit",
            seconds=self.soft,
            formula=f"busy + {LEDGER_WAIT:g} for a slow ledger; at most halfway to the hard limit",
            meaning="a wake-up that hangs is broken off",
        )
        yield Limit(name="hard limit", seconds=self.hard, formula="visibility timeout", meaning="a task that hangs is killed")
        by_itself = f"the larger of {_VISIBILITY:g} and busy + {_VISIBILITY_MARGIN:g}"
        yield Limit(
            name="visibility timeout",
            seconds=self.visibility_timeout,
            formula=by_itself if self.visibility is None else "broker.visibility_timeout",
            meaning="SQS hands a message out again",
        )
        yield Limit(
            name="stop grace",
            seconds=self.grace,
            formula=f"{self.lease:g} longest lease + {LEDGER_WAIT:g} for a slow ledger",
            meaning="give a worker so long to stop",
        )
        yield Limit(
            name="longest delay",
            seconds=LONGEST_DELAY,
            formula="what SQS takes",
            meaning="what is due later waits in the ledger",
        )
