"""The audit: accepted = recovered + pending + parked + discarded + rejected, or something was lost.

`accepted` is counted at intake, apart from the rows; the rest is counted from the rows, plus the sums of what prune removed.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from sqlalchemy import case, func, literal, select

from tasks.dlq.job import State
from tasks.dlq.ledger.schema import dead_letters, jobs, needs, tallies

if TYPE_CHECKING:
    from sqlalchemy import ColumnElement, Select

    from tasks.dlq.ledger.engine import Transaction

STANDINGS = ("recovered", "pending", "parked", "discarded", "rejected")


@dataclass(kw_only=True)
class Sums:
    """Dead letters by what has become of them. `accepted` is counted independently of the other five."""

    accepted: int = 0
    recovered: int = 0
    pending: int = 0
    parked: int = 0
    discarded: int = 0
    rejected: int = 0

    @property
    def lost(self) -> int:
        """Accepted, and in none of the five. Zero, always; negative would mean counted twice."""
        return self.accepted - (self.recovered + self.pending + self.parked + self.discarded + self.rejected)

    @property
    def balanced(self) -> bool:
        """Tell whether every accepted letter is accounted for."""
        return self.lost == 0


@dataclass(frozen=True, kw_only=True)
class Reach:
    """How far a stream's offsets reach, such as a Kafka partition's: tallied at intake, whatever was pruned since."""

    accepted: int
    first_offset: int
    last_offset: int

    @property
    def gaps(self) -> int:
        """Offsets between first and last that no letter had: compaction, retention and transaction markers leave some.

        Below zero: offsets came again, of a topic that was made anew or was rewound to before what prune has removed.
        """
        return self.last_offset - self.first_offset + 1 - self.accepted


@dataclass(kw_only=True)
class Audit(Sums):
    """The sums over everything and by source, and the reach of each source's streams."""

    sources: dict[str, Sums] = field(default_factory=dict)
    streams: dict[str, dict[str, Reach]] = field(default_factory=dict)

    @property
    def balanced(self) -> bool:
        """Tell whether every source balances: one's loss must not hide behind another's surplus."""
        return self.lost == 0 and all(sums.balanced for sums in self.sources.values())

    def as_dict(self) -> dict[str, Any]:
        """Return the audit as `redrive audit --json` prints it; only a source that numbers its records has `streams`."""
        sources: dict[str, Any] = {}
        for name, each in sorted(self.sources.items()):
            sources[name] = {**asdict(each), "lost": each.lost, "balanced": each.balanced}
            if streams := self.streams.get(name):
                sources[name]["streams"] = {stream: {**asdict(reach), "gaps": reach.gaps} for stream, reach in streams.items()}
        own = {name: getattr(self, name) for name in ("accepted", *STANDINGS)}
        return {**own, "lost": self.lost, "balanced": self.balanced, "sources": sources}


def standing(*where: ColumnElement[bool]) -> Select[Any]:
    """Select each letter's id, source, stream and standing: the worst of what its needs have come to.

    A letter with two needs is recovered when both are. One that is neither rejected nor has a need stands nowhere (NULL): a loss.
    """
    covered = needs.c.seq <= jobs.c.covered_seq
    rank = case(
        (covered, 0),
        (jobs.c.state == State.DISCARDED, 1),
        (jobs.c.state == State.PARKED, 2),
        (jobs.c.id.is_not(None), 3),
    )
    worst = func.max(rank)
    named = case((worst == 0, "recovered"), (worst == 1, "discarded"), (worst == 2, "parked"), (worst == 3, "pending"))  # noqa: PLR2004
    return (
        select(
            dead_letters.c.id,
            dead_letters.c.source,
            dead_letters.c.stream,
            case((dead_letters.c.reject_reason.is_not(None), literal("rejected")), else_=named).label("standing"),
        )
        .select_from(dead_letters)
        .outerjoin(needs, needs.c.dead_letter_id == dead_letters.c.id)
        .outerjoin(jobs, jobs.c.id == needs.c.job_id)
        .where(*where)
        .group_by(dead_letters.c.id)
    )


def audit(tx: Transaction) -> Audit:
    """Count everything once. Reads all letters: for proof, not for polling."""
    result = Audit()
    kept = select(
        tallies.c.source, func.sum(tallies.c.accepted), func.sum(tallies.c.recovered), func.sum(tallies.c.discarded)
    ).group_by(tallies.c.source)
    for source, accepted, recovered, discarded in tx.connection.execute(kept):
        result.sources[source] = Sums(accepted=int(accepted), recovered=int(recovered), discarded=int(discarded))
    numbered = select(tallies.c.source, tallies.c.stream, tallies.c.accepted, tallies.c.first_offset, tallies.c.last_offset)
    for row in tx.connection.execute(numbered.where(tallies.c.first_offset.is_not(None))):
        reach = Reach(accepted=row.accepted, first_offset=row.first_offset, last_offset=row.last_offset)
        result.streams.setdefault(row.source, {})[row.stream] = reach
    letter = standing().subquery()
    counted = select(letter.c.source, letter.c.standing, func.count()).group_by(letter.c.source, letter.c.standing)
    for source, name, count in tx.connection.execute(counted):
        sums = result.sources.setdefault(source, Sums())
        if name is not None:
            setattr(sums, name, getattr(sums, name) + count)
    for sums in result.sources.values():
        for name in ("accepted", *STANDINGS):
            setattr(result, name, getattr(result, name) + getattr(sums, name))
    return result
