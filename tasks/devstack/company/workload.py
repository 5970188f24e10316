"""The Kafka messages of the demo. A seed decides them, so that a run can be repeated.

Half of the messages come in groups of three about one manager A: {A, B}, {A, C} and {A, D}. The three go to different partitions
and name the same barrier. So three consumers read A before the first of them writes: one succeeds, two have a conflict.
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
#: Four partitions in ranges over three consumers: the first consumer has 0 and 1, the others have one each.
#: So these three partitions belong to three consumers.
CONFLICT_PARTITIONS = (1, 2, 3)
DEPARTMENTS = ("Accounting", "Kitchen", "Legal", "Night shift", "Payroll", "Sales", "Support", "Workshop")


@dataclass(frozen=True, kw_only=True)
class PlannedMessage:
    """A Kafka message to produce.

    Attributes:
        change: the body.
        partition: the partition to write to.
        barrier: the barrier at which its consumer waits for two others, if any.
    """

    change: Change
    partition: int
    barrier: str | None = None


@dataclass(frozen=True, kw_only=True)
class Workload:
    """So many messages.

    Attributes:
        messages: the number of messages.
        seed: decides everything else.
    """

    messages: int
    seed: int

    @property
    def employees(self) -> range:
        """The numbers of all employees."""
        return range(1, 41 + self.messages // 100)

    @property
    def managers(self) -> range:
        """The employees about whom consumers conflict."""
        return self.employees[: len(self.employees) // 4]

    def generate(self) -> Iterator[PlannedMessage]:
        """Yield the messages in the order in which they are produced."""
        rng = random.Random(self.seed)  # noqa: S311 - a run has to be repeatable
        revisions = count(1)
        staff = self.employees[len(self.managers) :]
        groups = -(-self.messages // 6) if self.messages >= len(CONFLICT_PARTITIONS) else 0
        singles = self.messages - groups * len(CONFLICT_PARTITIONS)
        for number in rng.sample(range(groups + singles), groups + singles):
            if number < groups:
                manager, others = rng.choice(self.managers), rng.sample(staff, len(CONFLICT_PARTITIONS))
                for partition, other in zip(CONFLICT_PARTITIONS, others, strict=True):
                    change = _make_change(rng, next(revisions), manager, other)
                    yield PlannedMessage(change=change, partition=partition, barrier=f"barrier-{number}")
            else:
                change = _make_change(rng, next(revisions), *rng.sample(staff, 2))
                yield PlannedMessage(change=change, partition=change.employees[0] % PARTITIONS)


def _make_change(rng: random.Random, revision: int, *employees: int) -> Change:
    return Change(department=rng.choice(DEPARTMENTS), revision=revision, employees=employees)
