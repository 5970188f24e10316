"""What a demo has proved, or what is wrong."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

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
            yield f"{last.messages - last.progress.handled} of {last.messages} messages were not consumed in time"
        if self.lost or not audit.balanced:
            yield f"{self.lost} dead letters are lost: the consumers sent {last.progress.dead_letters}"
        if last.queued:
            yield f"{last.queued} dead letters are still in their queue"
        if audit.pending or last.unsettled:
            yield f"{audit.pending} dead letters are not recovered yet, in {last.unsettled} jobs"
        if last.bells and last.progress.handled == last.messages:
            yield f"{last.bells} wake-ups are still in SQS"
        if audit.parked or audit.discarded or audit.rejected:
            yield f"{audit.parked} dead letters are parked, {audit.discarded} discarded, {audit.rejected} rejected"
        if self.stale:
            named = ", ".join(map(str, self.stale[:_NAMED])) + (", …" if len(self.stale) > _NAMED else "")
            yield f"{len(self.stale)} employees differ from the upstream truth: {named}"
        if last.calls.most > 1:
            yield f"{last.calls.most} calls were in flight at once"

    def as_dict(self) -> dict[str, Any]:
        """Return the verdict as `redrive demo --json` prints it."""
        last, audit = self.last, self.audit
        return {
            "messages": last.messages,
            "seed": self.story.seed,
            "employees": len(self.story.employees),
            "handled": last.progress.handled,
            "conflicts": last.progress.conflicts,
            "dead_letters": last.progress.dead_letters,
            "accepted": audit.accepted,
            "jobs": sum(last.jobs.values()),
            "calls": last.calls.total,
            "answers": dict(last.calls.statuses),
            "recovered": audit.recovered,
            "pending": audit.pending,
            "parked": audit.parked,
            "discarded": audit.discarded,
            "rejected": audit.rejected,
            "lost": self.lost,
            "max_calls_in_flight": last.calls.most,
            "max_calls_in_flight_per_key": last.calls.most_per_key,
            "stale_before": last.progress.left_stale,
            "stale_after": len(self.stale),
            "seconds": round(self.seconds, 1),
            "ok": not self.problems,
            "problems": self.problems,
        }

    def text(self) -> str:
        """Return the verdict for people."""
        last, audit = self.last, self.audit
        answers = ", ".join(f"{_answer(status)} {count}" for status, count in sorted(last.calls.statuses.items()))
        standings = " + ".join(f"{name} {getattr(audit, name)}" for name in STANDINGS)
        lines = [
            "Audit",
            f"  {last.progress.handled} messages, {last.progress.conflicts} conflicts",
            f"  {last.progress.dead_letters} dead letters -> {sum(last.jobs.values())} jobs -> {last.calls.total} calls",
            f"  {answers}",
            f"  accepted {audit.accepted} = {standings}",
            "",
        ]
        if self.problems:
            return "\n".join(["", *lines, "Verdict: NOT healed", *(f"  {problem}" for problem in self.problems), ""])
        healed = f"{last.progress.left_stale} of {len(self.story.employees)} employees were left stale"
        lines += [
            f"Verdict: healed in {self.seconds:.0f} s, nothing lost",
            f"  {healed}; now every one equals the upstream truth",
            f"  at most {last.calls.most} call in flight at any moment, counted at the API",
        ]
        return "\n".join(["", *lines, ""])


def _answer(status: str) -> str:
    return "no answer" if status == "499" else f"HTTP {status}"
