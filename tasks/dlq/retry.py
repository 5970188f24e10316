"""What an answer means and when to call again. Decides and touches nothing: values in, values out."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Outcome(StrEnum):
    """What became of one call."""

    SUCCESS = "success"
    CONFLICT = "conflict"  # 409, 412, 423, 425 and the like: the API is well, this key has to wait
    THROTTLED = "throttled"  # 429: the route has to wait
    API_FAULT = "api_fault"  # 408, 5xx: the API's fault
    NETWORK = "network"  # no answer: refused, reset, TLS, DNS, a broken response
    DEADLINE = "deadline"  # no complete answer in time: the outcome is unknown
    REFUSED = "refused"  # 401, 403: the route's credentials, not the job
    HOPELESS = "hopeless"  # 3xx, other 4xx: calling again cannot help
    NOT_SENT = "not_sent"  # the request never left: the attempt budget is not touched
    LOST = "lost"  # the worker died with the call open: the outcome is unknown


@dataclass(frozen=True, kw_only=True)
class Answers:
    """Which HTTP status means what; each a frozenset of codes. A code in none of them is hopeless."""

    success: frozenset[int] = frozenset(range(200, 300))
    conflict: frozenset[int] = frozenset({409, 412, 423, 425})
    throttled: frozenset[int] = frozenset({429})
    api_fault: frozenset[int] = frozenset({408, *range(500, 600)})
    refused: frozenset[int] = frozenset({401, 403})


@dataclass(frozen=True, kw_only=True)
class RetryPolicy:
    """Bounded attempts with exponential back-off and full jitter. Durations are seconds."""

    max_attempts: int = 8
    base: float = 5.0
    cap: float = 900.0
