"""What follows a call: whether its job is completed, called again or parked, and when. Values in, values out.

Every rule about this is here. The ledger reads the inputs (`tasks.dlq.ledger.settlement`), and writes the decision as it is. Only
needs that came during the call are left to its UPDATE: a job with new needs is neither completed nor parked, but scheduled again.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING

from tasks.dlq.calls.breaker import FAULTS, Breaker
from tasks.dlq.calls.outcome import Outcome

if TYPE_CHECKING:
    from tasks.dlq.calls.outcome import CallEnd

#: Leases in a row that expired, until the job is parked: a job that kills its worker must not do so for ever.
MAX_CRASHES = 5


class Verdict(StrEnum):
    """What becomes of the job after a call."""

    COMPLETE = "complete"
    RETRY = "retry"
    PARK = "park"


class Misses(StrEnum):
    """What becomes of the job's count of tries in a row that did not reach the API."""

    COUNT = "count"
    KEEP = "keep"
    RESET = "reset"


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """Bounded attempts with exponential back-off and full jitter. Durations are seconds."""

    #: Calls that reach the API, until the job is parked.
    max_attempts: int = 8
    #: The upper bound of the first wait; it doubles with each attempt.
    base: float = 5.0
    #: The upper bound of every wait.
    cap: float = 900.0
    #: Tries in a row that do not reach the API, until the job is parked.
    max_misses: int = 50
    #: The longest wait that the API may ask for.
    max_retry_after: float = 3600.0


@dataclass(frozen=True, kw_only=True)
class Situation:
    """What surrounds a call as it ends. The ledger reads it under the route's lock."""

    #: The key of the call.
    key: str
    #: The job's attempts and misses before this call.
    attempts: int
    misses: int
    #: The ledger's time in milliseconds.
    now: int
    #: The route's breaker before this call ended.
    breaker: Breaker = field(default_factory=Breaker)
    #: Seconds between two probes.
    probe_interval: float = 5.0
    #: Whether the route has other jobs that wait or are being called.
    has_other_keys: bool = True
    #: Whether the API has told this same job to wait before, and has served others since.
    waits_alone: bool = False


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What follows a call."""

    verdict: Verdict
    #: Seconds until a RETRY is due.
    delay: float = 0.0
    #: Whether the call counts against `max_attempts`.
    spend: bool = True
    misses: Misses = Misses.RESET
    #: Seconds without any call of the route, because the API asked for them.
    route_delay: float | None = None
    #: Whether the route pauses until a person resumes it: its credentials are refused.
    pause: bool = False
    #: The route's breaker afterwards; None leaves it as it is.
    breaker: Breaker | None = None
    #: Whether the breaker opens now: the key that failed first gets its attempts back.
    refund: bool = False


def decide(policy: RetryPolicy, end: CallEnd, situation: Situation, *, chance: float) -> Decision:
    """Return what follows a call.

    Args:
        policy: the route's bounds.
        end: how the call ended.
        situation: what surrounds it.
        chance: a random number in [0, 1) for the jitter.
    """
    before = situation.breaker
    breaker = before.after(end.outcome, key=situation.key, now=situation.now, interval=situation.probe_interval)
    decision = replace(_decide_by_policy(policy, end, situation, chance), breaker=breaker)
    if situation.waits_alone:  # one entity that the API always throttles must not hold the others each time
        decision = replace(decision, route_delay=None)
    if not breaker.open or end.outcome not in FAULTS:
        return decision
    decision = replace(decision, refund=not before.open)
    if not situation.has_other_keys:  # a key that is left alone may be at fault itself
        return decision
    return replace(decision, verdict=Verdict.RETRY, spend=False, delay=max(decision.delay, situation.probe_interval))


def _decide_by_policy(policy: RetryPolicy, end: CallEnd, situation: Situation, chance: float) -> Decision:
    """Return what follows the call if only this job is considered."""
    outcome = end.outcome
    if outcome is Outcome.SUCCESS:
        return Decision(verdict=Verdict.COMPLETE)
    if outcome is Outcome.HOPELESS:
        return Decision(verdict=Verdict.PARK)
    spend = outcome not in {Outcome.NOT_SENT, Outcome.REFUSED}
    misses = _count_misses(end)
    if spend:
        tries, bound = situation.attempts + 1, policy.max_attempts
    elif misses is Misses.COUNT:
        tries, bound = situation.misses + 1, policy.max_misses
    else:
        tries, bound = 0, 1
    exhausted = tries >= bound
    wait = min(max(end.retry_after or 0.0, 0.0), policy.max_retry_after)
    delay = _draw_delay(policy, tries, wait, chance)
    route_delay = None
    if outcome is Outcome.THROTTLED:  # the client is too fast, not the key: without Retry-After the route waits for the back-off
        route_delay = wait or delay
    elif outcome is Outcome.API_FAULT and wait:
        route_delay = wait
    return Decision(
        verdict=Verdict.PARK if exhausted else Verdict.RETRY,
        delay=0.0 if exhausted else delay,
        spend=spend,
        misses=misses,
        route_delay=route_delay,
        pause=outcome is Outcome.REFUSED,
    )


def _count_misses(end: CallEnd) -> Misses:
    if end.outcome in FAULTS or end.short:  # a fault keeps them: a refund after an open breaker counts as a miss, too
        return Misses.KEEP
    return Misses.COUNT if end.outcome is Outcome.NOT_SENT else Misses.RESET


def _draw_delay(policy: RetryPolicy, tries: int, wait: float, chance: float) -> float:
    """Return the seconds until the next try: full jitter, and never before the `wait` that the API asked for.

    Full jitter is a uniform draw below `base * 2 ** (tries - 1)`, at most `cap` (AWS Architecture Blog, "Exponential Backoff
    And Jitter"). The draw starts at one second, so that no retry is due at once. Jobs that wait for the same `Retry-After`
    spread over up to `base` seconds after it.
    """
    ceiling = min(policy.cap, math.ldexp(policy.base, min(max(tries, 1), 60) - 1))
    floor = min(1.0, ceiling)
    delay = floor + chance * (ceiling - floor)
    return max(delay, wait + chance * policy.base) if wait else delay


def decide_after_crash(crashes: int) -> Verdict:
    """Return what follows an expired lease, the last of `crashes` in a row."""
    return Verdict.PARK if crashes >= MAX_CRASHES else Verdict.RETRY
