"""Decides which calls of the sample API fail. A seed and the number of the call decide, so that a run can be repeated."""

from __future__ import annotations

import random
from collections import Counter
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


class Fault(StrEnum):
    """A way in which a call fails."""

    CONFLICT = "conflict"  # 409
    UNAVAILABLE = "unavailable"  # 503 with Retry-After
    HANG = "hang"  # no answer until the client leaves


#: The number of faults of each kind in a demo, which has to end in time.
BOUNDED: Mapping[Fault, int] = {Fault.CONFLICT: 8, Fault.UNAVAILABLE: 3, Fault.HANG: 3}


class FaultPlan:
    """Gives each call its fault, or None. Between two faults 3 to 8 calls succeed, so that Redrive sees no outage.

    `budget` is the number of faults of each kind. None means that the faults never end.
    """

    def __init__(self, seed: int, *, budget: Mapping[Fault, int] | None = BOUNDED) -> None:
        self._random = random.Random(seed)  # noqa: S311 - a run has to be repeatable
        self._budget = budget
        self._plan = self._generate()

    def next(self) -> Fault | None:
        """Return the fault of the next call."""
        return next(self._plan, None)

    def choose_retry_after(self) -> int:
        """Return whole seconds for a Retry-After header."""
        return self._random.randint(1, 2)

    def _generate(self) -> Iterator[Fault | None]:
        used: Counter[Fault] = Counter()
        while True:
            kinds = [kind for kind in Fault if self._budget is None or used[kind] < self._budget.get(kind, 0)]
            if not kinds:
                return
            for kind in self._random.sample(kinds, len(kinds)):
                used[kind] += 1
                yield from [None] * self._random.randint(3, 8)
                yield kind
