"""A job: the one row of a key, its states, and the claim that a worker holds while it calls.

::

    scheduled ──► executing ──► completed
                   │  ▲  │
                   ▼  │  └────► parked
                 retryable

    executing → scheduled             the call succeeded, but needs came meanwhile
    parked|completed|discarded → scheduled     a new need, a replay, an undo
    scheduled|retryable|parked → discarded     a person
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


class State(StrEnum):
    """The states of a job; the chart is above."""

    SCHEDULED = "scheduled"
    EXECUTING = "executing"
    RETRYABLE = "retryable"
    COMPLETED = "completed"
    PARKED = "parked"
    DISCARDED = "discarded"


#: A claim may take the job when it is due.
WAITING = (State.SCHEDULED, State.RETRYABLE)
#: A new need or a replay opens the job again, with a fresh budget.
CLOSED = (State.COMPLETED, State.PARKED, State.DISCARDED)


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One worker's right to make one call of a job, until the lease ends."""

    job_id: int
    route: str
    #: The canonical JSON of the parameters; with the route, the job's identity.
    key: str
    parameters: Mapping[str, str]
    #: A random value: only the claim that holds it may settle the job.
    token: str
    #: A number that only grows for each key; sent to the API as `Redrive-Fence`.
    fence: int
    #: The number of this call in the job's life, from 1.
    number: int
    #: What a success covers: the job's `last_seq` at the claim.
    covers_seq: int
    #: The budget used before this call: calls that reached the API, and tries in a row that did not.
    attempts: int
    misses: int


@dataclass(frozen=True, kw_only=True)
class Settled:
    """What a settlement did."""

    #: The job's new state; None if the lease was lost, and only coverage may have changed.
    state: State | None
    #: Whether the route was paused.
    paused: bool = False


@dataclass(frozen=True, kw_only=True)
class Wakeup:
    """A wake-up to send after the transaction's commit."""

    job_id: int
    #: Seconds until it arrives.
    delay: float
