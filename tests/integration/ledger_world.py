"""What the ledger's model knows of the world: what the sources sent, where each worker is, and which calls the API saw."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from tasks.dlq.calls.api import Answer, SyncRequest, SyncResult
from tasks.dlq.calls.outcome import CallEnd
from tasks.dlq.calls.retry import RetryPolicy
from tasks.dlq.calls.route import Route
from tasks.dlq.job import Claim
from tasks.dlq.parameters import Integer
from tasks.dlq.ports import Record
from tasks.dlq.reading.mapping import BodyMapping
from tasks.dlq.reading.reader import BodyReader, RouteChoice, SubmissionReader

#: Seconds for which a source may deliver a record again, and for which prune keeps what is over.
RETENTION, KEEP = 3600.0, 7200.0
POLICY = RetryPolicy(max_attempts=3, base=1.0, cap=8.0, max_misses=3, max_retry_after=60.0)
ROUTE = Route(
    name="employees",
    url="http://127.0.0.1:1/employees/{id}",
    params={"id": Integer(positive=True)},
    delay=5.0,
    deadline=20.0,
    retry=POLICY,
)
READER = BodyReader(
    choices=[RouteChoice(route=ROUTE, mapping=BodyMapping(params={"id": "id"}, each="employees"))], max_body=10_000
)
SUBMISSIONS = SubmissionReader(routes={"employees": ROUTE})
NUMBERS = (1, 2, 3)
#: Seconds to wait: until something is due, a lease or a rest is over, or the route may call again.
NEXT = 0.0
#: How a call may be answered.
ANSWERS = {
    "success": SyncResult(answer=Answer.ANSWERED, status=200),
    "conflict": SyncResult(answer=Answer.ANSWERED, status=409),
    "fault": SyncResult(answer=Answer.ANSWERED, status=503),
    "throttled": SyncResult(answer=Answer.ANSWERED, status=429, retry_after="7"),
    "hopeless": SyncResult(answer=Answer.ANSWERED, status=400),
    "refused": SyncResult(answer=Answer.ANSWERED, status=401),
    "reset": SyncResult(answer=Answer.NETWORK, unknown=True),
}
HUNG = SyncResult(answer=Answer.DEADLINE, unknown=True)
UNSENT = SyncResult(answer=Answer.NOT_SENT)


class Violated(AssertionError):  # noqa: N818 - what happened to a promise
    """The ledger broke a promise. The message begins with the promise's name."""


def demand(holds: bool, promise: str, why: object = "") -> None:  # noqa: FBT001 - reads as `assert`
    """Raise Violated unless the promise holds."""
    if not holds:
        raise Violated(f"{promise}: {why}")


class Actor:
    """Who acts right now, and how far that process's own clock is off: the ledger must not care (rule 11)."""

    skew: ClassVar[float] = 0.0


@dataclass
class Call:
    """What the API knows of one call. Ticks order the steps; times are the clock's milliseconds."""

    key: str
    claimed: int
    began: int
    sent_at: int
    open_until: float = float("inf")
    succeeded: bool = False
    written_down: bool = False


@dataclass
class Worker:
    """One worker process: nothing, a claim, a call that is open, or a call that has ended and is to be written down."""

    name: str
    skew: float = 0.0
    held: Claim | None = None
    since: float = 0.0
    claimed: int = 0
    call: Call | None = None
    ended: CallEnd | None = None

    @property
    def stage(self) -> str:
        if self.held is None:
            return "idle"
        if self.ended is not None:
            return "ended"
        return "calling" if self.call else "claimed"


@dataclass
class Sent:
    """A record as its source knows it, and since which step the ledger has it."""

    record: Record
    source: str
    keys: Sequence[str]
    first_at: int
    identity: str = ""
    accepted: int = 0


@dataclass
class Api:
    """The application's side. `request` comes from a worker's own code, through the Protocol that the HTTP adapter has."""

    world: Any
    calls: list[Call] = field(default_factory=list)
    refuses: bool = False
    lag: float = 0.0

    def call(self, request: SyncRequest) -> SyncResult:
        if self.refuses:
            return UNSENT
        self.world.pass_time(self.lag)  # the process was not scheduled for a moment: less than the margin
        now, key = self.world.clock.now, key_of(int(request.parameters["id"]))
        still_open = [call for call in self.calls if call.open_until > now]
        demand(key not in [call.key for call in still_open], "single flight", f"two calls are open for {key}")
        limit = self.world.route.max_in_flight
        demand(len(still_open) < limit, "single flight", f"{len(still_open) + 1} calls are open, {limit} are allowed")
        self.calls.append(Call(key=key, claimed=self.world.acting.claimed, began=self.world.tick, sent_at=now))
        return SyncResult(answer=Answer.ANSWERED)  # how it ends is another step's


def key_of(number: int) -> str:
    return json.dumps({"id": str(number)}, separators=(",", ":"))
