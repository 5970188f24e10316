"""The audit: accepted = recovered + pending + parked + discarded + rejected. Otherwise something was lost.

Intake counts `accepted` independently of the rows. The others are counted from the rows, plus the sums of what prune removed.
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
    """How many dead letters there are in each standing. `accepted` is counted independently of the other five."""

    accepted: int = 0
    recovered: int = 0
    pending: int = 0
    parked: int = 0
    discarded: int = 0
    rejected: int = 0

    @property
    def lost(self) -> int:
        """Accepted letters in none of the five standings: always zero. Negative would mean that letters were counted twice."""
        return self.accepted - (self.recovered + self.pending + self.parked + self.discarded + self.rejected)

    @property
    def balanced(self) -> bool:
        """Whether every accepted letter has a standing."""
        return self.lost == 0


@dataclass(frozen=True, kw_only=True)
class OffsetRange:
    """The range of a stream's offsets, such as a Kafka partition's. Intake counts it, and pruning does not change it."""

    accepted: int
    first_offset: int
    last_offset: int

    @property
    def gaps(self) -> int:
        """Offsets between first and last without a letter: compaction, retention and transaction markers leave some.

        Negative: the topic was created again, or was rewound to letters that prune had removed.
        """
        return self.last_offset - self.first_offset + 1 - self.accepted


@dataclass(kw_only=True)
class Audit(Sums):
    """The sums of all sources and of each, and the offsets of each source's streams."""

    sources: dict[str, Sums] = field(default_factory=dict)
    streams: dict[str, dict[str, OffsetRange]] = field(default_factory=dict)

    @property
    def balanced(self) -> bool:
        """Whether every source balances: the loss of one must not be hidden by the surplus of another."""
        return self.lost == 0 and all(sums.balanced for sums in self.sources.values())

    def as_dict(self) -> dict[str, Any]:
        """Return the audit as `redrive audit --json` prints it. Only a source with numbered records has `streams`."""
        sources: dict[str, Any] = {}
        for name, sums in sorted(self.sources.items()):
            sources[name] = {**asdict(sums), "lost": sums.lost, "balanced": sums.balanced}
            if streams := self.streams.get(name):
                sources[name]["streams"] = {name: {**asdict(offsets), "gaps": offsets.gaps} for name, offsets in streams.items()}
        own = {name: getattr(self, name) for name in ("accepted", *STANDINGS)}
        return {**own, "lost": self.lost, "balanced": self.balanced, "sources": sources}


def select_standings(*where: ColumnElement[bool]) -> Select[Any]:
    """Select each letter's id, source, stream and standing: the worst standing of its needs.

    A letter with two needs is recovered when both are. A letter without needs that is not rejected has none (NULL): a loss.
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
    """Count all letters. This reads every row: use it for proof, not for polling."""
    result = Audit()
    kept = select(
        tallies.c.source, func.sum(tallies.c.accepted), func.sum(tallies.c.recovered), func.sum(tallies.c.discarded)
    ).group_by(tallies.c.source)
    for source, accepted, recovered, discarded in tx.connection.execute(kept):
        result.sources[source] = Sums(accepted=int(accepted), recovered=int(recovered), discarded=int(discarded))
    numbered = select(tallies.c.source, tallies.c.stream, tallies.c.accepted, tallies.c.first_offset, tallies.c.last_offset)
    for row in tx.connection.execute(numbered.where(tallies.c.first_offset.is_not(None))):
        reach = OffsetRange(accepted=row.accepted, first_offset=row.first_offset, last_offset=row.last_offset)
        result.streams.setdefault(row.source, {})[row.stream] = reach
    letter = select_standings().subquery()
    counted = select(letter.c.source, letter.c.standing, func.count()).group_by(letter.c.source, letter.c.standing)
    for source, name, count in tx.connection.execute(counted):
        sums = result.sources.setdefault(source, Sums())
        if name is not None:
            setattr(sums, name, getattr(sums, name) + count)
    for sums in result.sources.values():
        for name in ("accepted", *STANDINGS):
            setattr(result, name, getattr(result, name) + getattr(sums, name))
    return result
