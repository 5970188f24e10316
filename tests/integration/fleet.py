"""Several workers on one ledger, a broker and beat, in a time that is the test's own: hours pass in seconds.

Everything is the services' own code but three parts: SQS is a heap of messages that arrive when they are due (its delays are
whole seconds), beat is two sweeps, and the API answers as it is told. While a call is open, every other worker is handed a
wake-up, too.
"""

from __future__ import annotations

import heapq
import math
from dataclasses import dataclass
from itertools import count, cycle
from typing import TYPE_CHECKING

from sqlalchemy import select

from tasks.dlq.calls.api import Answer, SyncRequest, SyncResult
from tasks.dlq.job import State
from tasks.dlq.ledger.schema import jobs, routes
from tasks.dlq.ports import Record
from tasks.dlq.reading.reader import SubmissionReader, encode_submission
from tasks.dlq.services.intake import Intake
from tasks.dlq.services.maintenance import Maintenance
from tasks.dlq.services.recovery import Recovery

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

    from ledger_bench import Bench

    from tasks.dlq.calls.route import Route

#: Beat's default: seconds between two sweeps. `rescue` has twice as many.
SWEEP = 5.0
#: Seconds that a message takes from SQS to a worker, and that an answer takes.
LATENCY, QUICK = 0.2, 0.02
OK = SyncResult(answer=Answer.ANSWERED, status=200)
UNAVAILABLE = SyncResult(answer=Answer.ANSWERED, status=503, detail="HTTP 503")
NETWORK_DOWN = SyncResult(answer=Answer.NETWORK, detail="connecting: ConnectionRefusedError")
HANGS = SyncResult(answer=Answer.DEADLINE, detail="no answer in time", unknown=True)


@dataclass(frozen=True)
class Call:
    """A call as the API saw it; times are seconds since the test began."""

    begin: float
    employee: int
    status: int | None
    worker: int


class Fleet:
    """A route's workers. `answer` says how the API answers a call of an employee, at any moment."""

    def __init__(self, bench: Bench, route: Route, *, workers: int = 3) -> None:
        self.bench = bench
        self.route = route
        self.began = bench.clock.now
        self.calls: list[Call] = []
        self.sent = 0
        self.answer: Callable[[int], SyncResult] = lambda _: OK
        self.messages: list[tuple[float, int, int]] = []
        self.beats = True
        self._numbers = count()
        self._next_sweep = 0.0
        self._open: list[int] = []
        self.most_open = 0
        self._identities = count()
        self._reader = SubmissionReader(routes=self.routes)
        self.start(workers)

    @property
    def routes(self) -> Mapping[str, Route]:
        return {self.route.name: self.route}

    @property
    def now(self) -> float:
        return (self.bench.clock.now - self.began) / 1000

    # --- processes ----------------------------------------------------------------------------------------------------

    def start(self, workers: int) -> None:
        """Begin with new workers, as after a deploy or a crash of all; whatever the old ones knew is gone."""
        self.workers = [self._worker(number) for number in range(workers)]
        self._turns = cycle(range(workers))
        self.sweeps = Maintenance(self.bench.ledger, self.routes, self)
        self.intake = Intake(self.bench.ledger, self.routes, self)
        self.sweeps.note_worker_start()

    def _worker(self, number: int) -> Recovery:
        api = _Api(self, number)
        return Recovery(
            self.bench.ledger,
            self.routes,
            api,
            self,
            slice_seconds=5.0,
            worker=f"w{number}",
            monotonic=lambda: self.now,
            wall=lambda: self.bench.clock.now / 1000,
        )

    def send(self, job_id: int, *, delay: float) -> None:
        """Be SQS: deliver the message when its whole seconds are over."""
        self.sent += 1
        heapq.heappush(self.messages, (self.now + math.ceil(delay) + LATENCY, next(self._numbers), job_id))

    # --- what happens -------------------------------------------------------------------------------------------------

    def submit(self, employees: Iterable[int]) -> None:
        """Hand over one failure about each employee."""
        bodies = [encode_submission(self.route.name, {"employeeId": employee}) for employee in employees]
        records = [Record(identity=f"m-{next(self._identities)}", body=body) for body in bodies]
        self.intake.take("test", self._reader, records)

    def run(self, seconds: float) -> None:
        """Let so much time pass."""
        self.run_until(lambda: False, self.now + seconds)

    def run_until(self, over: Callable[[], bool], end: float) -> None:
        """Let time pass until something is so, or until a moment."""
        while not over():
            message = self.messages[0][0] if self.messages else math.inf
            if min(message, self._next_sweep) > end:
                self._pass_to(end)
                return
            if message <= self._next_sweep:
                _, _, job_id = heapq.heappop(self.messages)
                self._pass_to(message)
                self._wake(next(self._turns), job_id)
            else:
                self._pass_to(self._next_sweep)
                self._next_sweep += SWEEP
                self._sweep()

    def _wake(self, worker: int, job_id: int) -> None:
        """Do as the Celery task does: its autoretry carries the job's own next wake-up."""
        retry_at = self.workers[worker].run_slice(job_id).retry_at
        if retry_at is not None:
            self.send(job_id, delay=max(retry_at - self.now, 1.0))

    def _sweep(self) -> None:
        if self.beats:
            self.sweeps.promote()
            self.sweeps.rescue()

    def _pass_to(self, moment: float) -> None:
        self.bench.clock.advance(max(moment - self.now, 0.0))

    def serve(self, request: SyncRequest, worker: int) -> SyncResult:
        """Be the API. While the call is open, wake-ups come to all others."""
        employee = int(request.parameters["employeeId"])
        result = self.answer(employee)
        self.calls.append(Call(self.now, employee, result.status, worker))
        self._open.append(worker)
        self.most_open = max(self.most_open, len(self._open))
        self.bench.clock.advance(self.route.deadline if result.unknown else QUICK)
        for number in range(len(self.workers)):
            if number not in self._open:
                self._wake(number, request.job_id)
        self._open.remove(worker)
        return result

    # --- looks --------------------------------------------------------------------------------------------------------

    def calls_between(self, begin: float, end: float) -> list[Call]:
        return [call for call in self.calls if begin <= call.begin < end]

    def attempts(self) -> int:
        """Return the most attempts that any job has spent of its budget."""
        return max((row["attempts"] for row in self.bench.rows("jobs")), default=0)

    def states(self) -> set[State]:
        with self.bench.ledger.begin(read_only=True) as tx:
            return {State(state) for state in tx.connection.scalars(select(jobs.c.state).distinct())}

    def breaker_open(self) -> bool:
        with self.bench.ledger.begin(read_only=True) as tx:
            return bool(tx.connection.scalar(select(routes.c.breaker_open)))


class _Api:
    """The API as one worker sees it."""

    def __init__(self, fleet: Any, number: int) -> None:
        self._fleet = fleet
        self._number = number

    def call(self, request: SyncRequest) -> SyncResult:
        return self._fleet.serve(request, self._number)
