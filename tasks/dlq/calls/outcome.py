"""What the answer to a call means: its outcome, and which HTTP status counts as which."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

STATUSES = range(100, 600)  # RFC 9110 section 15: anything else is no HTTP status


class Outcome(StrEnum):
    """The outcome of a call."""

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
class CallEnd:
    """How a call ended."""

    outcome: Outcome
    #: The HTTP status, if there was one.
    status: int | None = None
    #: One line for people, without secrets.
    detail: str = ""
    #: The failure group's key (`tasks.dlq.failures`); None after a success.
    group_key: str | None = None
    #: Seconds that the API asked to wait, from its Retry-After header.
    retry_after: float | None = None
    #: Whether the API may still be working on the call: key and slot then rest for the route's drain.
    unknown: bool = False
    #: Whether this process lacked a resource (a file descriptor, memory) and sent nothing: that counts for nothing.
    short: bool = False


@dataclass(frozen=True, kw_only=True)
class Answers:
    """Which HTTP status means which outcome. A status in none of the sets is hopeless.

    The first set that contains a status decides, in the order of the fields. To treat 404 as done, add it to `success`. To treat
    202 as not done yet, remove it from `success` and add it to `conflict`.
    """

    success: frozenset[int] = frozenset(range(200, 300))
    refused: frozenset[int] = frozenset({401, 403})
    throttled: frozenset[int] = frozenset({429})
    conflict: frozenset[int] = frozenset({409, 412, 423, 425})
    api_fault: frozenset[int] = frozenset({408, *range(500, 600)})


def parse_status_set(specs: Iterable[str | int]) -> frozenset[int]:
    """Return the HTTP statuses of a list of 404, "404", "2xx" or "200-299", or of one such text.

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
                f'{ascii(spec)[:40]} is not an HTTP status: write 404, "2xx" or "200-299", within {STATUSES[0]} to {STATUSES[-1]}'
            )
        statuses.update(range(first, last + 1))
    return frozenset(statuses)
