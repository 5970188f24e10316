"""The port to the application's sync API: what a call sends, what it returns, and which outcome that is."""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

from tasks.dlq.calls.outcome import STATUSES, Outcome

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tasks.dlq.calls.outcome import Answers
    from tasks.dlq.calls.route import Route


class Answer(StrEnum):
    """How far a call got."""

    ANSWERED = "answered"  # a complete head, and the body up to the limit
    NETWORK = "network"  # no usable answer
    DEADLINE = "deadline"  # no complete answer in time
    NOT_SENT = "not_sent"  # nothing was written to a socket


@dataclass(frozen=True, kw_only=True)
class SyncRequest:
    """One call of a job."""

    route: Route
    parameters: Mapping[str, str]
    job_id: int
    #: The number of this call in the job's life, from 1.
    attempt: int
    #: A number that only grows for each key.
    fence: int
    #: When the lease ends and the call must be over, by `tasks.dlq.clock.boottime`, even if it begins late.
    ends_by: float = math.inf


@dataclass(frozen=True, kw_only=True)
class SyncResult:
    """What a call returned. A call raises no errors: it always ends with a result."""

    answer: Answer
    #: The HTTP status, if one came.
    status: int | None = None
    #: The Retry-After header as it came.
    retry_after: str | None = None
    #: One line for people, without secrets.
    detail: str = ""
    #: Whether the API may still be working on the call: it was sent, and no answer came.
    unknown: bool = False
    #: The resource that this process lacked, in words, if it could not send; else empty.
    short: str = ""
    #: How long the call took, by a monotonic clock.
    seconds: float = 0.0


class SyncApi(Protocol):
    """Calls the application's own API for one entity."""

    def call(self, request: SyncRequest) -> SyncResult:
        """Make one HTTP call. It returns within the route's deadline plus one second, also if the server hangs."""
        ...


def classify(result: SyncResult, answers: Answers) -> Outcome:
    """Return the outcome of a call on a route with these `answers`."""
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
