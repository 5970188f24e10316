"""Reports of batch commands: a line per item, the number of each result, and how the command ends."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from tasks.cli.errors import Partly
from tasks.dlq.errors import NotFound

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from tasks.cli.output import Output
    from tasks.dlq.errors import BrokerUnavailable
    from tasks.dlq.services.wakeups import WakeResult


class Report:
    """Prints what became of each item, and counts the results. `words` names the results, in the order of the summary."""

    def __init__(self, out: Output, words: Mapping[str, str]) -> None:
        self.out = out
        self.words = words
        self.counts: Counter[str] = Counter()
        self._paused: set[str] = set()
        self._unsent: BrokerUnavailable | None = None

    def add(self, result: str, record: Mapping[str, Any], line: str = "") -> None:
        """Count an item and print it: the record for machines, the line for people, if there is one."""
        self.counts[result] += 1
        if self.out.json:
            self.out.record(record)
        elif line:
            self.out.line(line)

    def add_wakeups(self, wakeups: WakeResult) -> None:
        """Note which routes are paused, and why wake-ups were not sent."""
        self._paused |= set(wakeups.paused)
        self._unsent = self._unsent or wakeups.error

    @property
    def summary(self) -> str:
        """The number of each result: "2 repaired, 1 not found"."""
        return ", ".join(f"{self.counts[result]:,} {word}" for result, word in self.words.items() if self.counts[result])

    def print_notes(self) -> None:
        """Print what delays the calls: paused routes, and wake-ups that were not sent."""
        for route in sorted(self._paused):
            self.out.note(f"{route} is paused: no call is made until redrive resume {route}")
        warn_unsent(self.out, self._unsent)

    def end(self, *, done: Collection[str], hint: str) -> None:
        """Print the notes. Then, unless all results are in `done`, raise NotFound or Partly with a hint."""
        self.print_notes()
        results = {result for result, count in self.counts.items() if count}
        if results == {"not_found"}:
            raise NotFound(self.summary, hint=hint)
        if results - set(done):
            raise Partly(self.summary, hint=hint)


def warn_unsent(out: Output, error: BrokerUnavailable | None) -> None:
    """Warn if wake-ups could not be sent."""
    if error:
        out.warn(f"the ledger has it, but no worker was woken: {error.message}", hint="beat's next sweep wakes one")
