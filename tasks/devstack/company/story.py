"""The changes that the demo lives through: decided by a seed, so that a run can be repeated.

Half of the messages come in threes that concern the same manager: {A, B}, {A, C} and {A, D}. They go to three different
partitions and name a meeting, so that three consumers have read A before the first of them writes: one wins, two conflict.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING

from tasks.devstack.company.store import Change

if TYPE_CHECKING:
    from collections.abc import Iterator

PARTITIONS = 4
#: With four partitions in ranges over three consumers the first has 0 and 1, the others one each: these are in three hands.
MEETING_PARTITIONS = (1, 2, 3)
DEPARTMENTS = ("Accounting", "Kitchen", "Legal", "Night shift", "Payroll", "Sales", "Support", "Workshop")


@dataclass(frozen=True, kw_only=True)
class Event:
    """One Kafka message to be."""

    change: Change
    partition: int
    meeting: str | None = None


@dataclass(frozen=True, kw_only=True)
class Story:
    """So many messages about so many people; the first `managers` of them are those that the conflicts are about."""

    messages: int
    seed: int

    @property
    def employees(self) -> range:
        """Everyone's number."""
        return range(1, 41 + self.messages // 100)

    @property
    def managers(self) -> range:
        """Those whom three messages at a time concern."""
        return self.employees[: len(self.employees) // 4]

    def events(self) -> Iterator[Event]:
        """Yield the messages in the order in which they are produced."""
        rng = random.Random(self.seed)  # noqa: S311 - it has to be repeatable
        revisions = count(1)
        staff = self.employees[len(self.managers) :]
        meetings = -(-self.messages // 6) if self.messages >= len(MEETING_PARTITIONS) else 0
        singles = self.messages - meetings * len(MEETING_PARTITIONS)
        for scene in rng.sample(range(meetings + singles), meetings + singles):
            if scene < meetings:
                manager, others = rng.choice(self.managers), rng.sample(staff, len(MEETING_PARTITIONS))
                for partition, other in zip(MEETING_PARTITIONS, others, strict=True):
                    change = _change(rng, next(revisions), manager, other)
                    yield Event(change=change, partition=partition, meeting=f"meeting-{scene}")
            else:
                change = _change(rng, next(revisions), *rng.sample(staff, 2))
                yield Event(change=change, partition=change.employees[0] % PARTITIONS)


def _change(rng: random.Random, revision: int, *employees: int) -> Change:
    return Change(department=rng.choice(DEPARTMENTS), revision=revision, employees=employees)
