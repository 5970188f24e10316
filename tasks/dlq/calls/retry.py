"""What an answer means and when to call again. Decides and touches nothing: values in, values out."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

from tasks.dlq.calls.outcome import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable


class Verdict(StrEnum):
    """What becomes of the job after a call."""

    COMPLETE = "complete"
    RETRY = "retry"
    PARK = "park"


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """Bounded attempts with exponential back-off and full jitter. Durations are seconds.

    `max_attempts` bounds the calls that reached the API, `max_misses` the tries in a row that did not. `max_retry_after` is
    the longest wait that an API may ask for.
    """

    max_attempts: int = 8
    base: float = 5.0
    cap: float = 900.0
    max_misses: int = 50
    max_retry_after: float = 3600.0


@dataclass(frozen=True, kw_only=True)
class Decision:
    """What to do after one try.

    `delay` is the seconds until a RETRY is due, `spend` whether the try counts against `max_attempts`, `route_delay` the
    seconds for which no job of the route may call (the API asked for it), and `pause` whether the route stops until a
    person has looked: its credentials are refused, and no job is parked for that.
    """

    verdict: Verdict
    delay: float = 0.0
    spend: bool = True
    route_delay: float | None = None
    pause: bool = False


def decide(
    policy: RetryPolicy,
    outcome: Outcome,
    *,
    attempts: int,
    misses: int,
    retry_after: float | None,
    rng: Callable[[], float],
) -> Decision:
    """Return what to do after a try.

    Args:
        policy: the route's bounds.
        outcome: what `classify` said, or LOST.
        attempts: tries of this budget that count against `max_attempts`, this one included when it does.
        misses: tries in a row that never reached the API, this one included when it did not.
        retry_after: seconds that the API asked for (`parse_retry_after`), if any.
        rng: returns the next random float in [0, 1), as `random.random` does.
    """
    if outcome is Outcome.SUCCESS:
        return Decision(verdict=Verdict.COMPLETE)
    if outcome is Outcome.HOPELESS:
        return Decision(verdict=Verdict.PARK)
    spend = outcome not in {Outcome.NOT_SENT, Outcome.REFUSED}
    exhausted = attempts >= policy.max_attempts if spend else outcome is Outcome.NOT_SENT and misses >= policy.max_misses
    wait = min(max(retry_after or 0.0, 0.0), policy.max_retry_after)
    delay = _backoff(policy, attempts if spend else misses, wait, rng())
    route_delay = None
    if outcome is Outcome.THROTTLED:  # it is the client that is too fast, not the key: without a wait of its own the back-off
        route_delay = wait or delay
    elif outcome is Outcome.API_FAULT and wait:
        route_delay = wait
    return Decision(
        verdict=Verdict.PARK if exhausted else Verdict.RETRY,
        delay=0.0 if exhausted else delay,
        spend=spend,
        route_delay=route_delay,
        pause=outcome is Outcome.REFUSED,
    )


def _backoff(policy: RetryPolicy, tries: int, wait: float, chance: float) -> float:
    """Return the seconds until the next try: full jitter, and never before the `wait` that the API asked for.

    Full jitter is a uniform draw below `base * 2 ** (tries - 1)`, at most `cap` (AWS Architecture Blog, "Exponential Backoff
    And Jitter"). The draw starts at one second, so that no retry is due at once. What waits for the same `Retry-After`
    spreads over up to `base` seconds after it.
    """
    ceiling = min(policy.cap, math.ldexp(policy.base, min(max(tries, 1), 60) - 1))
    floor = min(1.0, ceiling)
    delay = floor + chance * (ceiling - floor)
    return max(delay, wait + chance * policy.base) if wait else delay


# --- reading what people and APIs write ------------------------------------------------------------------------------


# --- failure groups --------------------------------------------------------------------------------------------------
