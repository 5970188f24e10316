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

    from tasks.dlq.calls.outcome import Outcome


class State(StrEnum):
    """Where a job stands."""

    SCHEDULED = "scheduled"
    EXECUTING = "executing"
    RETRYABLE = "retryable"
    COMPLETED = "completed"
    PARKED = "parked"
    DISCARDED = "discarded"


#: Due at some time; a claim may take it.
WAITING = (State.SCHEDULED, State.RETRYABLE)
#: At rest; a new need or a replay opens it again with a fresh budget.
CLOSED = (State.COMPLETED, State.PARKED, State.DISCARDED)


@dataclass(frozen=True, kw_only=True)
class Claim:
    """One worker's right to make one call of a job, until the lease ends. Times are the ledger's milliseconds.

    `mark` is what a success covers: the job's `last_seq` when it was claimed. `probe` tells that the breaker is open and this
    call is its probe.
    """

    job_id: int
    route: str
    key: str
    parameters: Mapping[str, str]
    token: str
    fence: int
    number: int
    mark: int
    attempts: int
    misses: int
    lease_until: int
    probe: bool = False


@dataclass(frozen=True, kw_only=True)
class Settled:
    """What a settle made of the job. `late` when the lease had been taken: then only coverage may have moved."""

    job_id: int
    state: State | None
    due_at: int
    late: bool = False
    covered: int = 0


@dataclass(frozen=True, kw_only=True)
class Wakeup:
    """A bell to be rung for a job after the transaction's commit. `delay` is seconds."""

    job_id: int
    delay: float


@dataclass(frozen=True, kw_only=True)
class Ending:
    """How a call ended, for the record. `short`: it was not sent for want of something here, which counts for nothing."""

    outcome: Outcome
    status: int | None = None
    detail: str = ""
    group_key: str | None = None
    short: bool = False
