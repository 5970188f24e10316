"""What a demo has proved, or what is wrong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tasks.dlq.alerts.text import in_words
from tasks.dlq.ledger.audit import STANDINGS

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tasks.devstack.company.story import Story
    from tasks.devstack.demo.snapshot import Snapshot
    from tasks.devstack.processes import Ended
    from tasks.dlq.ledger.audit import Audit

#: How many employees a sentence names.
_NAMED = 10


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """The end of a demo: the last look while it ran, and the ledger and the company after all had been stopped."""

    story: Story
    last: Snapshot
    audit: Audit
    stale: Sequence[int]
    seconds: float
    ended: Ended | None = None

    @property
    def lost(self) -> int:
        """Dead letters that the consumers handed over and the ledger does not account for."""
        return max(0, self.last.progress.dead_letters - self.audit.accepted) + abs(self.audit.lost)

    @property
    def problems(self) -> list[str]:
        """What is wrong, a sentence each; none when all is well."""
        return list(self._problems())

    def _problems(self) -> Iterator[str]:
        last, audit = self.last, self.audit
        if self.ended:
            yield f"{self.ended} in the middle"
        if last.progress.handled < last.messages:
            yield f"{last.progress.handled} of {in_words(last.messages, 'message')} consumed in time"
        if self.lost or not audit.balanced:
            yield f"{in_words(self.lost, 'dead letter')} lost: the consumers sent {last.progress.dead_letters}"
        if last.queued:
            yield f"{in_words(last.queued, 'dead letter')} still in the queue"
        if audit.pending or last.unsettled:
            yield f"{in_words(audit.pending, 'dead letter')} not recovered yet, in {in_words(last.unsettled, 'job')}"
        if last.bells and last.progress.handled == last.messages:
            yield f"{in_words(last.bells, 'wake-up')} still in SQS"
        if audit.parked or audit.discarded or audit.rejected:
            yield f"dead letters: {audit.parked} parked, {audit.discarded} discarded, {audit.rejected} rejected"
        if self.stale:
            named = ", ".join(map(str, self.stale[:_NAMED])) + (", …" if len(self.stale) > _NAMED else "")
            yield f"{in_words(len(self.stale), 'employee')} unlike the upstream truth: {named}"
        if last.calls.most > 1:
            yield f"{in_words(last.calls.most, 'call')} were in flight at once"

    def as_dict(self) -> dict[str, Any]:
        """Return the verdict as `redrive demo --json` prints it."""
        audit = self.audit
        return {
            **seen(self.story, self.last, seconds=self.seconds),
            "accepted": audit.accepted,
            **{name: getattr(audit, name) for name in STANDINGS},
            "lost": self.lost,
            "stale_after": len(self.stale),
            "ok": not self.problems,
            "problems": self.problems,
        }

    def text(self) -> str:
        """Return the verdict for people."""
        last, audit = self.last, self.audit
        answers = ", ".join(f"{_answer(status)} {count}" for status, count in sorted(last.calls.statuses.items()))
        standings = " + ".join(f"{name} {getattr(audit, name)}" for name in STANDINGS)
        path = {"dead letter": last.progress.dead_letters, "job": sum(last.jobs.values()), "call": last.calls.total}
        lines = [
            "Audit",
            f"  {in_words(last.progress.handled, 'message')}, {in_words(last.progress.conflicts, 'conflict')}",
            "  " + " -> ".join(in_words(count, noun) for noun, count in path.items()),
            *([f"  {answers}"] if answers else []),
            f"  accepted {audit.accepted} = {standings}",
            "",
        ]
        if self.problems:
            return "\n".join(["", *lines, "Verdict: NOT healed", *(f"  {problem}" for problem in self.problems), ""])
        return "\n".join(["", *lines, *(self._healed() if last.progress.conflicts else self._unharmed()), ""])

    def _healed(self) -> Iterator[str]:
        left = self.last.progress.left_stale
        verb = "was" if left == 1 else "were"
        yield f"Verdict: healed in {self.seconds:.0f} s, nothing lost"
        yield f"  {left} of {len(self.story.employees)} employees {verb} left stale, their newest change in conflict;"
        yield "  now every one equals the upstream truth"
        yield f"  at most {in_words(self.last.calls.most, 'call')} in flight at any moment, counted at the API"

    def _unharmed(self) -> Iterator[str]:
        yield "Verdict: no conflict happened: nothing was there to heal"
        yield "  every employee equals the upstream truth; for conflicts, more messages:"
        yield "  redrive demo --messages 60"


def seen(story: Story, last: Snapshot, *, seconds: float) -> dict[str, Any]:
    """Return what a look tells, JSON-ready: all that is known of a demo that is stopped in the middle."""
    return {
        "messages": last.messages,
        "seed": story.seed,
        "employees": len(story.employees),
        "handled": last.progress.handled,
        "conflicts": last.progress.conflicts,
        "dead_letters": last.progress.dead_letters,
        "accepted": last.accepted,
        "jobs": sum(last.jobs.values()),
        "calls": last.calls.total,
        "answers": dict(last.calls.statuses),
        "max_calls_in_flight": last.calls.most,
        "max_calls_in_flight_per_key": last.calls.most_per_key,
        "stale_before": last.progress.left_stale,
        "seconds": round(seconds, 1),
        "interrupted": False,
    }


def _answer(status: str) -> str:
    return "no answer" if status == "499" else f"HTTP {status}"
