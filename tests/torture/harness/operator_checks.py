"""What operators did, held against what came of it: each act by its own log, by Redrive's audit log and by the attempts."""

from __future__ import annotations

from collections import Counter, defaultdict
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

from harness.history import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from harness.history import Act, Attempt, History
    from harness.settings import Bounds

#: The ledger writes whole milliseconds, rounded.
_ROUNDING = 0.002
#: What the API answers to a call that parks a job at once.
_HOPELESS = "hopeless"
_DID = {0, 3}


def broken_acts(history: History, bounds: Bounds) -> Iterator[Finding]:
    """Hold pauses, discards, replays and parked jobs to what they mean."""
    jobs = _jobs(history)
    yield from paused(history)
    for job in jobs:
        yield from discarded(job, bounds)
        yield from replayed(job)
        yield from parked(job, bounds)
    yield from written_down(history)


@dataclass(frozen=True, kw_only=True)
class Story:
    """One job's: its attempts, when its needs were recorded, and the acts that named it."""

    id: str
    key: str
    state: str
    attempts: Sequence[Attempt]
    needs: Sequence[float]
    acts: Sequence[Act]

    def reopened(self, since: float, until: float) -> bool:
        """Tell whether an act may have opened the job in that time."""
        return any(act.action == "replay" and act.began <= until and act.ended >= since for act in self.acts)


def _jobs(history: History) -> list[Story]:
    attempts: dict[str, list[Attempt]] = defaultdict(list)
    for attempt in history.attempts:
        attempts[attempt.key].append(attempt)
    recorded = {letter.identity: letter.recorded for letter in history.letters}
    needs: dict[str, list[float]] = defaultdict(list)
    for need in history.needs:
        needs[need.key].append(recorded[need.identity])
    acts: dict[str, list[Act]] = defaultdict(list)
    for act in history.acts:
        for name in act.arguments:
            acts[name].append(act)
    return [
        Story(
            id=str(job.id),
            key=job.key,
            state=job.state,
            attempts=attempts[job.key],
            needs=sorted(needs[job.key]),
            acts=acts[str(job.id)],
        )
        for job in history.jobs
    ]


def paused(history: History) -> Iterator[Finding]:
    """No call of a paused route begins: from the end of the command that paused it to the beginning of one that resumes it."""
    began: dict[str, list[float]] = defaultdict(list)
    for attempt in history.attempts:
        began[attempt.key.partition("/")[0]].append(attempt.began)
    of_routes: dict[str, list[Act]] = defaultdict(list)
    for act in sorted(history.acts, key=lambda act: act.began):
        if act.action in {"pause", "resume"}:
            of_routes[act.arguments[0]].append(act)
    for route, acts in of_routes.items():
        for act, following in zip(acts, [*acts[1:], None], strict=True):
            if act.action != "pause" or act.code not in _DID:
                continue
            until = following.began if following else float("inf")
            calls = sum(act.ended + _ROUNDING < each < until - _ROUNDING for each in began[route])
            if calls:
                yield Finding(kind="acts", text=f"{calls} calls of {route} began while it was paused")


def discarded(job: Story, bounds: Bounds) -> Iterator[Finding]:
    """A job is discarded by an operator alone, and is not called again unless it fails again or is replayed."""
    if job.state == "discarded" and not any(_may_have(act, "discard", job.id) for act in job.acts):
        yield Finding(kind="acts", text=f"job {job.id} ({job.key}) is discarded, and nobody did that")
    for act in job.acts:
        if act.results.get(job.id) != "discarded":
            continue
        after = next((attempt for attempt in job.attempts if attempt.began > act.ended + _ROUNDING), None)
        if after is None or job.reopened(act.began, after.began):
            continue
        since = act.began - bounds.lock_wait
        if not any(since <= recorded <= after.began + _ROUNDING for recorded in job.needs):
            text = f"fence {after.fence} of {job.key} began though job {job.id} was discarded, and nothing had opened it"
            yield Finding(kind="acts", text=text)


def replayed(job: Story) -> Iterator[Finding]:
    """What was replayed is called, unless it is discarded again."""
    for act in job.acts:
        if act.results.get(job.id) != "replayed":
            continue
        called = any(attempt.began >= act.began - _ROUNDING for attempt in job.attempts)
        if not called and not any(_may_have(other, "discard", job.id) and other.ended > act.began for other in job.acts):
            yield Finding(kind="acts", text=f"job {job.id} ({job.key}) was replayed, and never called")


def parked(job: Story, bounds: Bounds) -> Iterator[Finding]:
    """An answer that is hopeless ends the calls, until a new need comes or the job is replayed."""
    longest = bounds.lease - bounds.lease_margin
    for one, following in pairwise(job.attempts):
        settled_in_time = one.ended is not None and one.ended - one.began < longest and one.ended <= following.began
        if one.outcome != _HOPELESS or not settled_in_time or following.covers_seq > one.covers_seq:
            continue
        if not job.reopened(one.began, following.began):
            text = f"fence {following.fence} of {job.key} began though fence {one.fence} had been told that it is hopeless"
            yield Finding(kind="bounds", text=text)


def written_down(history: History) -> Iterator[Finding]:
    """Each act that told of its success is in Redrive's audit log, as often as it was done."""
    entries = Counter(history.decisions)
    told: Mapping[tuple[str, str], int] = Counter(
        (act.action, f"job {job}")
        for act in history.acts
        for job, result in act.results.items()
        if result in {"discarded", "replayed"}
    )
    for (action, subject), count in told.items():
        if entries[action, subject] < count:
            yield Finding(
                kind="acts", text=f"{action} of {subject}: done {count} times, written down {entries[action, subject]} times"
            )


def _may_have(act: Act, action: str, job: str) -> bool:
    """Tell whether the act did that to the job: it said so, or nobody knows, because it ended before it could."""
    return act.action == action and (act.results.get(job) == f"{action}ed" or (job not in act.results and act.code not in _DID))
