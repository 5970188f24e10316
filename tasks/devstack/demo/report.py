"""The result of a demo: what it has proved, or what is wrong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tasks.dlq.ledger.audit import STANDINGS
from tasks.dlq.text import format_count

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tasks.devstack.child import Ended
    from tasks.devstack.company.workload import Workload
    from tasks.devstack.demo.snapshot import Snapshot
    from tasks.dlq.ledger.audit import Audit

#: The highest number of employees in one sentence.
_LISTED = 10


@dataclass(frozen=True, kw_only=True)
class Report:
    """The result of a demo.

    Attributes:
        workload: the messages of the demo.
        last: the last snapshot.
        audit: the audit of the ledger after all processes have stopped.
        stale: the numbers of the employees that still differ from the upstream facts.
        seconds: the duration.
        ended: the process that ended too early, if any.
    """

    workload: Workload
    last: Snapshot
    audit: Audit
    stale: Sequence[int]
    seconds: float
    ended: Ended | None = None

    @property
    def lost(self) -> int:
        """Number of dead letters that the consumers sent and the ledger does not have."""
        return max(0, self.last.progress.dead_letters - self.audit.accepted) + abs(self.audit.lost)

    @property
    def problems(self) -> list[str]:
        """A sentence for each thing that is wrong."""
        return list(self._find_problems())

    def _find_problems(self) -> Iterator[str]:
        last, audit = self.last, self.audit
        if self.ended:
            yield f"{self.ended} during the demo"
        if last.progress.handled < last.messages:
            yield f"{last.progress.handled} of {format_count(last.messages, 'message')} consumed in time"
        if self.lost or not audit.balanced:
            yield f"{format_count(self.lost, 'dead letter')} lost: the consumers sent {last.progress.dead_letters}"
        if last.queued:
            yield f"{format_count(last.queued, 'dead letter')} still in the queue"
        if audit.pending or last.unfinished:
            yield f"{format_count(audit.pending, 'dead letter')} not recovered yet, in {format_count(last.unfinished, 'job')}"
        if last.wakeups and last.progress.handled == last.messages:
            yield f"{format_count(last.wakeups, 'wake-up')} still in SQS"
        if audit.parked or audit.discarded or audit.rejected:
            yield f"dead letters: {audit.parked} parked, {audit.discarded} discarded, {audit.rejected} rejected"
        if self.stale:
            listed = ", ".join(map(str, self.stale[:_LISTED])) + (", …" if len(self.stale) > _LISTED else "")
            yield f"{format_count(len(self.stale), 'employee')} still stale: {listed}"
        if (most := last.statistics["max_in_flight"]) > 1:
            yield f"{format_count(most, 'call')} were open at once"

    def as_dict(self) -> dict[str, Any]:
        """Return the report as `redrive demo --json` prints it."""
        audit = self.audit
        return {
            **describe_snapshot(self.workload, self.last, seconds=self.seconds),
            "accepted": audit.accepted,
            **{name: getattr(audit, name) for name in STANDINGS},
            "lost": self.lost,
            "stale_after": len(self.stale),
            "ok": not self.problems,
            "problems": self.problems,
        }

    def format(self) -> str:
        """Return the report as text."""
        last, audit = self.last, self.audit
        answers = ", ".join(f"{_name_status(status)} {count}" for status, count in sorted(last.statistics["statuses"].items()))
        standings = " + ".join(f"{name} {getattr(audit, name)}" for name in STANDINGS)
        path = {"dead letter": last.progress.dead_letters, "job": sum(last.jobs.values()), "call": last.statistics["calls"]}
        lines = [
            "Audit",
            f"  {format_count(last.progress.handled, 'message')}, {format_count(last.progress.conflicts, 'conflict')}",
            "  " + " -> ".join(format_count(count, noun) for noun, count in path.items()),
            *([f"  {answers}"] if answers else []),
            f"  accepted {audit.accepted} = {standings}",
            "",
            *self._format_result(),
        ]
        return "\n".join(["", *lines, ""])

    def _format_result(self) -> Iterator[str]:
        progress = self.last.progress
        if self.problems:
            yield "Result: NOT recovered"
            yield from (f"  {problem}" for problem in self.problems)
        elif progress.conflicts:
            yield f"Result: recovered in {self.seconds:.0f} s, nothing lost"
            verb = "was" if progress.left_stale == 1 else "were"
            yield f"  {progress.left_stale} of {len(self.workload.employees)} employees {verb} left stale by conflicts."
            yield "  Now every employee equals the upstream facts."
            yield f"  The API never had more than {format_count(self.last.statistics['max_in_flight'], 'call')} open at once."
        else:
            yield "Result: no conflict happened, so there was nothing to recover"
            yield "  Every employee equals the upstream facts. For conflicts, use more messages:"
            yield "  redrive demo --messages 60"


def describe_snapshot(workload: Workload, last: Snapshot, *, seconds: float) -> dict[str, Any]:
    """Return a snapshot for JSON. It is also the result of a demo that was interrupted."""
    return {
        "messages": last.messages,
        "seed": workload.seed,
        "employees": len(workload.employees),
        "handled": last.progress.handled,
        "conflicts": last.progress.conflicts,
        "dead_letters": last.progress.dead_letters,
        "accepted": last.accepted,
        "jobs": sum(last.jobs.values()),
        "calls": last.statistics["calls"],
        "answers": last.statistics["statuses"],
        "max_calls_in_flight": last.statistics["max_in_flight"],
        "max_calls_in_flight_per_key": last.statistics["max_in_flight_per_key"],
        "stale_before": last.progress.left_stale,
        "seconds": round(seconds, 1),
        "interrupted": False,
    }


def _name_status(status: str) -> str:
    return "no answer" if status == "499" else f"HTTP {status}"  # the API records 499 when the client has left
