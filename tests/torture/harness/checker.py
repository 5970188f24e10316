"""The checker: a history in, findings out. It believes neither Redrive nor itself: each promise is reckoned from two sides.

`docs/background/torture.md` says in words what is checked here.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, defaultdict
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from harness.history import Finding
from harness.operator_checks import broken_acts

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from harness.history import Attempt, Call, History, Span
    from harness.settings import Bounds

#: The ledger writes whole milliseconds, rounded.
_ROUNDING = 0.002
#: The share of the drain by which a busy machine may tell the API late that its client has gone.
_TOLD_LATE = 0.5


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What was found, and what is no fault of Redrive's: `outlasted` calls went on at the API long after their client had gone,
    `suspended` ones were sent by a process that had been stopped just before, `blurred` pairs met while the API stood still.
    """

    findings: Sequence[Finding]
    outlasted: int
    suspended: int
    blurred: int
    standings: Counter[str]
    accepted: int
    calls: int

    def count(self, kind: str) -> int:
        return sum(1 for finding in self.findings if finding.kind == kind)


def check(history: History, bounds: Bounds, *, unread: int = 0) -> Verdict:
    """Hold a run to Redrive's promises. One that did not come to rest has left `unread` messages in their sources."""
    standings = standing(history)
    known = suspended(history, bounds)
    in_time = [call for call in history.calls if (call.key, call.fence) not in known]
    together = api_overlaps(in_time, bounds, history.stalls)
    findings = [
        *lost(history, unread),
        *books(history, standings),
        *together.findings,
        *ledger_overlaps(history.attempts, bounds, _over(history)),
        *uncovered(history),
        *out_of_bounds(history, bounds),
        *fences(in_time, history.attempts),
        *broken_acts(history, bounds),
    ]
    return Verdict(
        findings=findings,
        outlasted=together.outlasted,
        suspended=len(known),
        blurred=together.blurred,
        standings=Counter(standings.values()),
        accepted=history.sums["accepted"],
        calls=len(history.calls),
    )


def standing(history: History) -> dict[str, str]:
    """Return what has become of each letter, reckoned need by need: the worst of them."""
    worst = ["recovered", "discarded", "parked", "pending", "rejected"]
    jobs = {job.key: job for job in history.jobs}
    found = {letter.identity: "rejected" for letter in history.letters if letter.rejected}
    for need in history.needs:
        job = jobs[need.key]
        is_open = job.state if job.state in {"discarded", "parked"} else "pending"
        now = "recovered" if need.seq <= job.covered_seq else is_open
        found[need.identity] = max(found.get(need.identity, now), now, key=worst.index)
    return found


def lost(history: History, unread: int = 0) -> Iterator[Finding]:
    """Whatever was confirmed is in the ledger, unless SQS lost it before Redrive had asked to delete it, or still has it."""
    here = {letter.identity for letter in history.letters}
    missing = [sent for sent in history.sent if sent.identity not in here and not sent.wiped]
    if len(missing) > unread:
        for sent in missing:
            yield Finding(kind="lost", text=f"message {sent.number} ({sent.identity}) was confirmed and is not in the ledger")
    standings = standing(history)
    for letter in history.letters:
        if letter.identity not in standings:
            yield Finding(kind="lost", text=f"letter {letter.identity} is neither rejected nor has it a need")
    finished = {sent.number for sent in history.sent if sent.identity in here}
    for sent in history.sent:
        if sent.wiped and sent.number not in finished:
            yield Finding(kind="lost", text=f"message {sent.number} was sent again after SQS lost it, and never came in")


def books(history: History, standings: dict[str, str]) -> Iterator[Finding]:
    """The ledger's sums are those of its rows, each identity counts once, nothing is left over, nobody came in uninvited."""
    rows = Counter(standings.values())
    for name in ("recovered", "parked", "discarded", "rejected", "pending"):
        if history.sums[name] != rows[name]:
            yield Finding(kind="books", text=f"the audit says {history.sums[name]} {name}, the rows {rows[name]}")
    if history.sums["accepted"] != len(history.letters) or history.sums["accepted"] != sum(rows.values()):
        text = f"accepted are {history.sums['accepted']}, of {len(history.letters)} letters, {sum(rows.values())} stand somewhere"
        yield Finding(kind="books", text=text)
    if rows["pending"]:
        yield Finding(kind="books", text=f"{rows['pending']} letters are still pending after the drain")
    sent = {each.identity: each for each in history.sent}
    for letter in history.letters:
        known = sent.get(letter.identity)
        if known is None and letter.number not in history.unsure:
            yield Finding(kind="books", text=f"letter {letter.identity} was never sent")
        elif known is not None and known.poison != letter.rejected:
            told = "rejected" if letter.rejected else "not rejected"
            yield Finding(kind="books", text=f"message {known.number} is {'poison' if known.poison else 'sound'}, and {told}")
    for identity, count in Counter(letter.identity for letter in history.letters).items():
        if count > 1:
            yield Finding(kind="books", text=f"identity {identity} is there {count} times")


def suspended(history: History, bounds: Bounds) -> set[tuple[str, int]]:
    """Return the calls, by key and fence, of processes that were stopped between their last look at the lease and the request.

    Redrive sends nothing unless the lease lasts for a whole call and the margin. What gets to the API later was sent by a process
    that stood still meanwhile: no client can prevent that, and the fence is there so that the API can tell.
    """
    began = {(attempt.key, attempt.fence): attempt.began for attempt in history.attempts}
    latest = bounds.lease - bounds.lease_margin - bounds.deadline
    found = set()
    for call in history.calls:
        since = began.get((call.key, call.fence), call.began)
        stopped = any(stop.since < call.began and stop.until > since for stop in history.stops)
        if stopped and call.began > since + latest:
            found.add((call.key, call.fence))
    return found


@dataclass(kw_only=True)
class Together:
    """Calls that were open at once: findings; those that went on without their clients; what was seen too late to tell."""

    findings: list[Finding]
    outlasted: int = 0
    blurred: int = 0


def api_overlaps(calls: Iterable[Call], bounds: Bounds, stalls: Sequence[Span] = ()) -> Together:
    """No call begins while another of its key, or as many of its route as the limit allows, has a client waiting or just gone."""
    found = Together(findings=[])
    outlasted: set[tuple[str, int]] = set()
    still: list[Call] = []
    for call in sorted(calls, key=lambda call: call.began):
        still = [other for other in still if other.ended is None or other.ended > call.began]
        open_now = [other for other in still if _occupies(other, call.began, bounds)]
        texts = []
        for other in still:
            if other.key != call.key:
                continue
            if other in open_now:
                since = call.began - other.began
                texts.append(f"fence {call.fence} of {call.key} began {since:.3f} s after fence {other.fence}, still open")
            else:
                outlasted.add((other.key, other.fence))
        route = call.key.partition("/")[0]
        beside = sum(1 for other in open_now if other.key.partition("/")[0] == route)
        if beside >= bounds.limits[route]:
            texts.append(f"fence {call.fence} of {call.key} began beside {beside} open calls of its route")
        if texts and _stood_still(call.began, bounds, stalls):
            found.blurred += 1
        else:
            found.findings += [Finding(kind="overlaps", text=text) for text in texts]
        still.append(call)
    found.outlasted = len(outlasted)
    return found


def _stood_still(now: float, bounds: Bounds, stalls: Iterable[Span]) -> bool:
    """Tell whether the API stood still for so long just before that it saw late, or in another order, who went and who came."""
    since = now - bounds.deadline - bounds.drain
    lost = sum(max(0.0, min(stall.until, now + _TOLD_LATE) - max(stall.since, since)) for stall in stalls)
    return lost > bounds.drain * _TOLD_LATE / 2


def _occupies(call: Call, now: float, bounds: Bounds) -> bool:
    """Tell whether a call that the API works on holds its key: its client is there, or left less than the drain ago."""
    return call.gone is None or now < call.gone + bounds.drain * (1 - _TOLD_LATE)


def _over(history: History) -> dict[tuple[str, int], float]:
    """Return when attempts were surely over, by key and fence, whatever the ledger says.

    A settle whose commit had its answer cut off is made once more, and then tells a later end. So the API's log counts.
    """
    if not history.settles_twice:
        return {}
    over = {(attempt.key, attempt.fence): attempt.began for attempt in history.attempts}
    return over | {(call.key, call.fence): call.ended or float("inf") for call in history.calls}


def ledger_overlaps(attempts: Iterable[Attempt], bounds: Bounds, over: Mapping[tuple[str, int], float]) -> list[Finding]:
    """The same by Redrive's own log. An attempt is open until it is settled, but never longer than its lease allows a call."""
    found: list[Finding] = []
    still: list[tuple[float, Attempt]] = []
    for attempt in attempts:
        still = [(end, other) for end, other in still if end > attempt.began + _ROUNDING]
        route = attempt.key.partition("/")[0]
        beside = [other for _, other in still if other.key.partition("/")[0] == route]
        if any(other.key == attempt.key for other in beside) or len(beside) >= bounds.limits[route]:
            text = f"attempt {attempt.fence} of {attempt.key} began beside {[(each.fence, each.key) for each in beside]}"
            found.append(Finding(kind="overlaps", text=f"by the ledger, {text}"))
        longest = attempt.began + bounds.lease - bounds.lease_margin
        ends = (longest, attempt.ended or longest, over.get((attempt.key, attempt.fence), longest))
        still.append((min(ends), attempt))
    return found


def uncovered(history: History) -> Iterator[Finding]:
    """A need is covered by a call that began after it was recorded and succeeded, and is so before anybody sees it covered."""
    recorded = {letter.identity: letter.recorded for letter in history.letters}
    seen: dict[str, list[tuple[int, float]]] = defaultdict(list)
    for sample in history.samples:
        seen[sample.key].append((sample.covered_seq, sample.at))
    for job in history.jobs:
        seen[job.key].append((job.covered_seq, float("inf")))
    successes: dict[str, list[Call]] = defaultdict(list)
    for call in sorted(history.calls, key=lambda call: call.began):
        if call.succeeded:
            successes[call.key].append(call)
    for need in history.needs:
        covered_at = next((at for covered, at in seen[need.key] if covered >= need.seq), None)
        if covered_at is None:
            continue
        since = recorded[need.identity]
        calls = successes[need.key]
        first = bisect_right(calls, since - _ROUNDING, key=lambda call: call.began)
        if not any((call.ended or 0.0) <= covered_at for call in calls[first:]):
            text = (
                f"need {need.seq} of {need.key} is covered; no success began after it was recorded, and ended before it was seen"
            )
            yield Finding(kind="uncovered", text=text)


def out_of_bounds(history: History, bounds: Bounds) -> Iterator[Finding]:
    """Budgets are kept, and no call was made that Redrive has no attempt for."""
    for job in history.jobs:
        for name, most in (("attempts", bounds.attempts), ("misses", bounds.misses), ("crashes", bounds.crashes)):
            if getattr(job, name) > most:
                yield Finding(kind="bounds", text=f"{job.key} has {getattr(job, name)} {name}, of {most}")
    known = {(attempt.key, attempt.fence) for attempt in history.attempts}
    for call in history.calls:
        if (call.key, call.fence) not in known:
            yield Finding(
                kind="bounds", text=f"the API was called for {call.key} by fence {call.fence}: there is no such attempt"
            )


def fences(calls: Iterable[Call], attempts: Iterable[Attempt]) -> Iterator[Finding]:
    """A key's fences only grow, by the API's log and by the ledger's."""
    for told, entries in (("API", sorted(calls, key=lambda call: call.began)), ("ledger", attempts)):
        by_key: dict[str, list[int]] = defaultdict(list)
        for entry in entries:
            by_key[entry.key].append(entry.fence)
        for key, numbers in by_key.items():
            for one, next_one in pairwise(numbers):
                if next_one <= one:
                    yield Finding(kind="fences", text=f"by the {told}, fence {next_one} of {key} came after {one}")
