"""Workers: claim, send, end and settle, each a step of its own, by the code that the recovery service runs."""

from typing import Any

from ledger_world import (
    ANSWERS,
    Actor,
    Worker,
    demand,
)

from tasks.dlq.calls.api import SyncResult
from tasks.dlq.calls.outcome import Outcome
from tasks.dlq.job import Claim
from tasks.dlq.ledger import claims
from tasks.dlq.ledger.routes import lock_route


class Workers:
    """What workers do in the World; a mixin."""

    def work(self, number: int, until: str, **how: Any) -> None:
        """Let a worker go on until it holds a claim, its call is open or has ended, or (idle) all is written down."""
        worker = self.workers[number]
        before = worker.stage
        self._step(worker, **how)
        if before == worker.stage == "idle":  # nothing was due: wait a little
            self.pass_time(self._until_next() / 1000)
            self._step(worker, **how)
        while worker.stage not in {until, "idle"}:
            self._step(worker, **how)

    def _step(
        self,
        worker: Worker,
        *,
        answer: str,
        dawdles: float = 0.0,
        refuses: bool = False,
        lag: float = 0.0,
        go_on: bool = False,
    ) -> None:
        self.tick += 1
        self.acting, Actor.skew = worker, worker.skew
        if worker.stage == "idle":
            since = self.seconds()
            self._holds(worker, self._transact(lambda tx: claims.claim(lock_route(tx, self.route), worker=worker.name)), since)
        elif worker.stage == "claimed":
            self.pass_time(dawdles)
            self._send(worker, refuses=refuses, lag=lag)
        elif worker.stage == "calling":
            rest = self.route.drain * 1000 if ANSWERS[answer].unknown else 0
            self._end(worker, ANSWERS[answer], open_until=self.clock.now + rest)
        else:
            self._settle(worker, go_on=go_on)
        Actor.skew = 0.0

    def _holds(self, worker: Worker, held: Claim | None, since: float) -> None:
        worker.held, worker.since, worker.claimed, worker.call, worker.ended = (
            held,
            since,
            self.tick,
            None,
            None,
        )
        if held is None:
            return
        demand(not self.paused, "single flight", "a paused route gave a claim")
        demand(held.fence > self.fences.get(held.key, 0), "single flight", f"the fence of {held.key} does not grow")
        self.fences[held.key], self.claims[held.key] = held.fence, self.tick

    def _send(self, worker: Worker, *, refuses: bool, lag: float) -> None:
        """Begin the call that a claim allows, by the worker's own code: it looks at its own clock first."""
        self.api.refuses, self.api.lag = refuses, lag
        calls = len(self.api.calls)
        assert worker.held is not None
        result = self.recovery.call(self.route, worker.held, worker.since)
        if len(self.api.calls) > calls:
            worker.call = self.api.calls[-1]
        else:
            self._end(worker, result)

    def _end(self, worker: Worker, result: SyncResult, *, open_until: float = 0.0) -> None:
        """End a call; the worker judges it, and writes it down in another step."""
        assert worker.held is not None
        worker.ended = self.recovery.end_call(self.route, result)
        if worker.call is not None:
            worker.call.open_until = open_until
            worker.call.succeeded = worker.ended.outcome is Outcome.SUCCESS

    def _settle(self, worker: Worker, *, go_on: bool) -> None:
        """Write a call's end down, however late; a worker that goes on claims its next job in the same transaction."""
        assert worker.held is not None
        assert worker.ended is not None
        since = self.seconds()
        known = self._attempt_is_known(worker.held.token)
        settled, following = self.recovery.settle(self.route, worker.held, worker.ended, go_on=go_on, claimed_at=worker.since)
        if worker.call is not None:
            worker.call.written_down = known
        self.paused |= settled.paused
        self._holds(worker, following, since)

    def _attempt_is_known(self, token: str) -> bool:
        """Tell whether the attempt's job is still there: prune removes it once nobody needs it."""
        with self.ledger.begin(read_only=True) as tx:
            found = tx.connection.exec_driver_sql("SELECT 1 FROM attempts WHERE token = ?", (token,))
            return found.first() is not None

    def worker_dies(self, number: int) -> None:
        """Kill a worker. The API may work on a call that was open, until its deadline and the drain are over."""
        self._kill(number)

    def _kill(self, number: int) -> None:
        worker = self.workers[number]
        if worker.stage == "calling" and worker.call is not None:
            worker.call.open_until = worker.call.sent_at + (self.route.deadline + self.route.drain) * 1000
        self.workers[number] = Worker(worker.name, worker.skew)
