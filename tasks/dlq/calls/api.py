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
    """How far a call came."""

    ANSWERED = "answered"  # a complete status line and headers; the body up to the cap
    NETWORK = "network"  # no usable answer
    DEADLINE = "deadline"  # not ended in time
    NOT_SENT = "not_sent"  # nothing was written to a socket


@dataclass(frozen=True, kw_only=True)
class SyncRequest:
    """One call of a job. `attempt` counts from 1 over the job's life; `fence` only grows per key.

    `ends_by` is when the call must be over, by `tasks.dlq.clock.boottime`, however late it begins: its lease ends then.
    """

    route: Route
    parameters: Mapping[str, str]
    job_id: int
    attempt: int
    fence: int
    ends_by: float = math.inf


@dataclass(frozen=True, kw_only=True)
class SyncResult:
    """What came back. Never raised: a call always ends as one of these.

    `detail` is one line for people, without secrets. `retry_after` is the raw header. `unknown` tells that the API may still
    be working on the call (it was sent and no answer came). `short` is in words what this process had run out of when it could
    not send. `seconds` is measured by a monotonic clock.
    """

    answer: Answer
    status: int | None = None
    retry_after: str | None = None
    detail: str = ""
    unknown: bool = False
    short: str = ""
    seconds: float = 0.0


class SyncApi(Protocol):
    """Calls the application's own API for one entity."""

    def call(self, request: SyncRequest) -> SyncResult:
        """Make one HTTP call; return within the route's deadline plus one second, whatever the server does."""
        ...


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
