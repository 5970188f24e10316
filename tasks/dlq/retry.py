"""What an answer means and when to call again. Decides and touches nothing: values in, values out."""

from __future__ import annotations

import calendar
import hashlib
import json
import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING

from tasks.dlq.ports import Answer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tasks.dlq.ports import SyncResult

STATUSES = range(100, 600)  # RFC 9110 section 15: anything else is no HTTP status
A_YEAR = 366 * 86400.0


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


class Verdict(StrEnum):
    """What becomes of the job after a call."""

    COMPLETE = "complete"
    RETRY = "retry"
    PARK = "park"


@dataclass(frozen=True, kw_only=True)
class Answers:
    """Which HTTP status means what; each a frozenset of codes. A code in none of them is hopeless.

    The first list that holds a code decides, in the order of the fields: "404 is done" is `success` with 404 added, and
    "202 is not done yet" is `success` without 202 and `conflict` with it.
    """

    success: frozenset[int] = frozenset(range(200, 300))
    refused: frozenset[int] = frozenset({401, 403})
    throttled: frozenset[int] = frozenset({429})
    conflict: frozenset[int] = frozenset({409, 412, 423, 425})
    api_fault: frozenset[int] = frozenset({408, *range(500, 600)})


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


def classify(result: SyncResult, answers: Answers) -> Outcome:
    """Return what `result` means on a route with these `answers`."""
    match result.answer:
        case Answer.NOT_SENT:
            return Outcome.NOT_SENT
        case Answer.NETWORK:
            return Outcome.NETWORK
        case Answer.DEADLINE:
            return Outcome.DEADLINE
    for outcome, statuses in (
        (Outcome.SUCCESS, answers.success),
        (Outcome.REFUSED, answers.refused),
        (Outcome.THROTTLED, answers.throttled),
        (Outcome.CONFLICT, answers.conflict),
        (Outcome.API_FAULT, answers.api_fault),
    ):
        if result.status in statuses:
            return outcome
    # RFC 9110 section 15: a status outside 100 to 599 is to be taken for a server error.
    return Outcome.HOPELESS if result.status in STATUSES else Outcome.API_FAULT


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


def parse_status_set(specs: Iterable[str | int]) -> frozenset[int]:
    """Return the HTTP statuses that `specs` name: 404, "404", "2xx" or "200-299", or one such text by itself.

    Raises:
        ValueError: with the wrong item and what is allowed.
    """
    statuses: set[int] = set()
    for spec in [specs] if isinstance(specs, str) else specs:
        found = re.fullmatch(r"(?:([1-5])xx|([0-9]{3})(?:-([0-9]{3}))?)", str(spec).strip().lower(), re.ASCII)
        first = last = 0
        if found:
            family, low, high = found.groups()
            first, last = (int(family) * 100, int(family) * 100 + 99) if family else (int(low), int(high or low))
        if not (first in STATUSES and last in STATUSES and first <= last):
            raise ValueError(
                f'{ascii(spec)[:40]} is no HTTP status: write 404, "2xx" or "200-299", within {STATUSES[0]} to {STATUSES[-1]}'
            )
        statuses.update(range(first, last + 1))
    return frozenset(statuses)


_DATES = [
    re.compile(pattern, re.ASCII | re.IGNORECASE)
    for pattern in (
        # RFC 9110 section 5.6.7: IMF-fixdate, the obsolete RFC 850 form, and that of C's asctime().
        r"[a-z]{3}, (?P<day>\d{2}) (?P<month>[a-z]{3}) (?P<year>\d{4}) (?P<time>\d{2}:\d{2}:\d{2}) GMT",
        r"[a-z]{6,9}, (?P<day>\d{2})-(?P<month>[a-z]{3})-(?P<year>\d{2}) (?P<time>\d{2}:\d{2}:\d{2}) GMT",
        r"[a-z]{3} (?P<month>[a-z]{3}) (?P<day>[ \d]\d) (?P<time>\d{2}:\d{2}:\d{2}) (?P<year>\d{4})",
    )
]
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")


def parse_retry_after(value: str | None, *, now: float) -> float | None:
    """Return the seconds from `now` (since the epoch) that a Retry-After header asks for; RFC 9110 section 10.2.3.

    Both forms are read: seconds, and an HTTP-date in any of its three notations. None when there is none or it is neither;
    0 when it lies in the past; never more than a year.
    """
    text = (value or "").strip(" \t")
    if re.fullmatch(r"-?[0-9]+", text, re.ASCII):
        seconds = float(text)  # thousands of digits become infinite, not an error
    else:
        moment = _http_date(text, now)
        if moment is None:
            return None
        seconds = moment - now
    return min(max(seconds, 0.0), A_YEAR)


def _http_date(text: str, now: float) -> float | None:
    """Return the seconds since the epoch of an HTTP-date, None when `text` is none."""
    found = next(filter(None, (date.fullmatch(text) for date in _DATES)), None)
    if not found or found["month"].lower() not in _MONTHS:
        return None
    year, month, day = int(found["year"]), _MONTHS.index(found["month"].lower()) + 1, int(found["day"])
    hour, minute, second = map(int, found["time"].split(":"))
    if len(found["year"]) == 2:  # noqa: PLR2004 - RFC 9110: what looks more than 50 years ahead is in the past
        this_year = datetime.fromtimestamp(now, UTC).year
        year += this_year - this_year % 100
        year -= 100 if year > this_year + 50 else 0
    try:
        datetime(year, month, day, hour, minute, min(second, 59), tzinfo=UTC)
    except ValueError:
        return None
    return float(calendar.timegm((year, month, day, hour, minute, second))) if second <= 60 else None  # noqa: PLR2004 - leap


# --- failure groups --------------------------------------------------------------------------------------------------

_PLACEHOLDERS = [
    (re.compile(pattern, re.ASCII | re.IGNORECASE), placeholder)
    for pattern, placeholder in (
        (r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", "<uuid>"),
        (r"(?<!\w)(?:'[^']*'|\"[^\"]*\"|`[^`]*`)(?!\w)", "<text>"),
        (r"\b0x[0-9a-f]+\b|\b(?=[a-f]*[0-9])[0-9a-f]{8,}\b", "<hex>"),
        (r"\b(?=[a-z_-]*[0-9])[\w-]{20,}", "<id>"),
        (r"[0-9]+(?:[.,:][0-9]+)*", "<n>"),
    )
]


def normalise_message(text: str, limit: int = 200) -> str:
    """Return `text` on one line of at most `limit` characters, without what differs from job to job: ids, numbers, quotes."""
    line = " ".join("".join(char if char.isprintable() else " " for char in text[: 10 * limit]).split())
    for pattern, placeholder in _PLACEHOLDERS:
        line = pattern.sub(placeholder, line)
    return line if len(line) <= limit else line[: limit - 1] + "…"


def group_key(route: str, outcome: Outcome, status: int | None, message: str) -> str:
    """Return the failure group's identity, 32 hex digits: failures with the same cause share it."""
    identity = json.dumps([route, outcome, status, normalise_message(message)])
    return hashlib.sha256(identity.encode()).hexdigest()[:32]
