"""When the sample API misbehaves: decided by a seed and the number of the call, so that a run can be repeated."""

from __future__ import annotations

import random
from collections import Counter
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


class Fault(StrEnum):
    """A way to misbehave."""

    CONFLICT = "conflict"  # 409
    UNAVAILABLE = "unavailable"  # 503 with Retry-After
    HANG = "hang"  # no answer until the client goes


#: How often each may happen in a demo that has to end in time.
BOUNDED: Mapping[Fault, int] = {Fault.CONFLICT: 8, Fault.UNAVAILABLE: 3, Fault.HANG: 3}


class FaultPlan:
    """Gives each call its fault, or none. Between two faults 3 to 8 calls go well, so that nobody takes it for an outage."""

    def __init__(self, seed: int, *, budget: Mapping[Fault, int] | None = BOUNDED) -> None:
        """`budget` bounds each kind of fault; None is for ever, and an empty one is for none."""
        self._random = random.Random(seed)  # noqa: S311 - it has to be repeatable
        self._budget = budget
        self._plan = self._faults()

    def next(self) -> Fault | None:
        """Return the fault of the next call."""
        return next(self._plan, None)

    def retry_after(self) -> int:
        """Return whole seconds for a Retry-After header."""
        return self._random.randint(1, 2)

    def _faults(self) -> Iterator[Fault | None]:
        used: Counter[Fault] = Counter()
        while True:
            kinds = [kind for kind in Fault if self._budget is None or used[kind] < self._budget.get(kind, 0)]
            if not kinds:
                return
            for kind in self._random.sample(kinds, len(kinds)):
                used[kind] += 1
                yield from [None] * self._random.randint(3, 8)
                yield kind
