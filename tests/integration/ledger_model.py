"""A model of the world around the ledger, in plain Python: it knows what the sources sent and what the API saw.

`LedgerMachine` lets sources, workers, sweeps and people act in any order on a real ledger, by the services' own code, one
transaction a step, with time standing still in between. After each step it compares the ledger's word with what it knows:

1. nothing lost: accepted = recovered + pending + parked + discarded + rejected, with accepted counted by the model;
2. single flight: never two calls open for one key, nor more than the route allows, as the API sees it;
3. covered means covered: a need is recovered exactly when a success that began after it was recorded was written down.

`run` and `wander` run it and raise the first `Violated`. See test_model.py, and test_model_mutations.py for what it is worth.
"""

import json
import random
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, ClassVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from sqlalchemy import delete, select, text

from tasks.dlq.dead_letter import DeadLetter  # noqa: TC001 - read like any other
from tasks.dlq.job import Claim, Ending, State
from tasks.dlq.ledger import Ledger, ManualClock, Transaction, audit, claims, gates, letters, operations
from tasks.dlq.ledger.leases import MAX_CRASHES
from tasks.dlq.maintenance import Maintenance
from tasks.dlq.mapping import BodyMapping
from tasks.dlq.parameters import Integer
from tasks.dlq.ports import Answer, Record, SyncRequest, SyncResult
from tasks.dlq.reading import BodyReader, SubmissionReader, submission
from tasks.dlq.recovery import Recovery
from tasks.dlq.retry import Decision, Outcome, RetryPolicy
from tasks.dlq.route import Route
from tasks.dlq.schema import dead_letters, jobs, metadata

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
READER = BodyReader(route=ROUTE, mapping=BodyMapping(params={"id": "id"}, each="employees"), max_body=10_000)
SUBMISSIONS = SubmissionReader(routes={"employees": ROUTE})
NUMBERS = (1, 2, 3)
SETTINGS = settings(
    max_examples=300,
    stateful_step_count=40,
    derandomize=True,  # the same examples on every machine
    database=None,
    deadline=None,
    print_blob=False,
    report_multiple_bugs=False,
    suppress_health_check=list(HealthCheck),
)

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

NEXT = 0.0
_EITHER = [0, 1]
#: What may happen, how often in comparison, and what it is chosen from: methods of LedgerMachine.
ACTS: dict[str, tuple[int, dict[str, list[Any]]]] = {
    "read": (
        4,
        {
            "about": [[[1]], [[2]], [[1], [1]], [[1, 2]], [[3], [1]], [[2, 3], [1]]],
            "what": ["messages", "messages", "hostile", "rejected", "submission", "again", "again"],
            "at_once": [True, True, False],
        },
    ),
    "write": (2, {"number": _EITHER, "dies": [False, False, True]}),
    "work": (
        12,
        {
            "number": _EITHER,
            "until": ["claimed", "calling", "ended", "idle"],
            "dawdles": [0.0, 0.0, 0.0, 30.0],
            "answer": ["success"] * 6 + list(ANSWERS),
            "refuses": [False] * 5 + [True],
            "lag": [0.0, 0.0, 4.0],
            "go_on": [False, False, True],
        },
    ),
    "worker_dies": (2, {"number": _EITHER}),
    "wait": (6, {"seconds": [NEXT, NEXT, NEXT, NEXT, 0.5, 16.0], "sweep": [False, True]}),
    "lease_ends": (3, {}),
    "prune": (1, {"after": [10.0, RETENTION, KEEP + 1]}),
    "person": (2, {"number": list(NUMBERS), "act": ["look", "look", "look", "discard", "discard", "replay", "replay", "pause"]}),
    "resume": (2, {}),
}
LIMITS, DRAINS = [1, 2], [2.0, 40.0]


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
    result: SyncResult | None = None
    judged: tuple[Ending, Decision] | None = None

    @property
    def stage(self) -> str:
        if self.held is None:
            return "idle"
        if self.judged is not None:
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

    world: "LedgerMachine"
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


class LedgerMachine(RuleBasedStateMachine):
    """Any order of acts. Subclassed by `run`, which gives it a ledger."""

    ledger: ClassVar[Ledger]

    # --- the world ------------------------------------------------------------------------------------------------

    def __init__(self) -> None:
        super().__init__()
        self.clock: ManualClock = self.ledger.clock
        self.tick = 0
        self.route = ROUTE
        self.workers = [Worker("w0"), Worker("w1", skew=60.0)]
        Actor.skew = 0.0
        self.acting = self.workers[0]
        self.api = Api(self)
        self.sent: list[Sent] = []
        self.reading: dict[int, list[tuple[Sent, DeadLetter]]] = {}
        self.pruned: Counter[tuple[str, str]] = Counter()
        self.fences: dict[str, int] = {}
        self.seen: dict[str, tuple[int, State, int, int]] = {}
        self.checked = -1
        self.claims: dict[str, int] = {}
        self.paused = False
        with self.ledger.begin() as tx:
            for table in reversed(metadata.sorted_tables):
                tx.connection.execute(delete(table))
            tx.connection.execute(text("DELETE FROM sqlite_sequence"))

    @initialize(limit=st.sampled_from(LIMITS), drain=st.sampled_from(DRAINS))
    def begin(self, limit: int, drain: float) -> None:
        self.route = replace(ROUTE, max_in_flight=limit, drain=drain)
        self.recovery = Recovery(
            self.ledger,
            {"employees": self.route},
            self.api,
            self,
            slice_seconds=0.0,
            worker="w",
            monotonic=self.seconds,
            wall=self.seconds,
            rng=lambda: 0.5,
        )
        self.sweeps = Maintenance(self.ledger, {"employees": self.route}, self)

    def ring(self, job_id: int, *, delay: float) -> None:
        """Be the doorbell of a broker that loses everything."""

    def seconds(self) -> float:
        """Return what any worker's own clock says: they differ by where they start, not in how fast they go."""
        return self.clock.now / 1000

    def pass_time(self, seconds: float) -> None:
        """Let time pass. A call's client gives up at its deadline; the API works on for the drain."""
        self.clock.advance(seconds)
        for worker in self.workers:
            if worker.stage == "calling" and worker.call and self.clock.now - worker.call.sent_at >= self.route.deadline * 1000:
                gave_up = worker.call.sent_at + self.route.deadline * 1000
                self._end(worker, HUNG, open_until=gave_up + self.route.drain * 1000)

    @rule(data=st.data())
    def act(self, data: st.DataObject) -> None:
        """Do one of ACTS. One rule for all: of many, Hypothesis leaves some out of each run, and a call takes five in a row."""
        name = data.draw(st.sampled_from([name for name, (weight, _) in ACTS.items() for _ in range(weight)]), "act")
        getattr(self, name)(**{what: data.draw(st.sampled_from(choices), what) for what, choices in ACTS[name][1].items()})

    # --- sources --------------------------------------------------------------------------------------------------

    def read(self, about: list[list[int]], what: str, at_once: bool) -> None:  # noqa: FBT001 - drawn
        """Take a batch off the wire. It is written down at once, later, or never."""
        if len(self.reading) == 2:
            self._write(0)
        self.tick += 1
        recent = [each for each in self.sent if self.clock.now - each.first_at <= RETENTION * 1000]
        if what == "again":  # nobody acknowledged them, or their source does so by nature
            batch = recent[-len(about) :]
        elif what == "submission":  # its producer chooses an id, and chooses it again for another entity
            body = submission("employees", {"id": about[0][0]})
            batch = [each for each in self.sent if each.record.body == body]
            batch = [each for each in batch if each in recent] if batch else [self._submission(body, about[0][0])]
        else:
            batch = [self._message(numbers) for numbers in about]
        if what in {"hostile", "rejected"}:
            batch.append(self._made("queue", f"m-{len(self.sent)}", b"not json", stream="\ud800" if what == "hostile" else ""))
        reader = {"queue": READER, "celery": SUBMISSIONS}
        letters_read = [(each, reader[each.source].read(each.source, each.record)) for each in batch]
        for each, letter in letters_read:
            each.identity = letter.identity
        place = min({0, 1} - set(self.reading))
        self.reading[place] = letters_read
        if at_once:
            self._write(place)

    def _submission(self, body: bytes, number: int) -> Sent:
        return self._made("celery", "chosen", body, keys=[key_of(number)])

    def _message(self, numbers: list[int]) -> Sent:
        body = json.dumps({"employees": [{"id": number} for number in numbers]}).encode()
        return self._made("queue", f"m-{len(self.sent)}", body, keys=[key_of(number) for number in numbers])

    def _made(self, source: str, identity: str, body: bytes, *, keys: Sequence[str] = (), stream: str = "") -> Sent:
        record = Record(identity=identity, body=body, stream=stream)
        self.sent.append(Sent(record, source, keys, first_at=self.clock.now))
        return self.sent[-1]

    def write(self, number: int, dies: bool) -> None:  # noqa: FBT001 - drawn
        """Write down what a reader holds: from here on it is the ledger's. Or kill the reader: it is still the source's."""
        if number in self.reading and dies:
            self.reading.pop(number)
        elif number in self.reading:
            self._write(number)

    def _write(self, place: int) -> None:
        self.tick += 1
        batch = self.reading.pop(place)
        fresh = {id(each): each for each, _ in batch if not each.accepted}
        try:
            found = self._transact(
                lambda tx: letters.record(tx, [letter for _, letter in batch], delays={"employees": ROUTE.delay})
            )
        except Exception as error:
            raise Violated(f"nothing lost: one row cost the whole batch: {error!r}") from error
        demand(found.accepted == len(fresh), "nothing lost", f"{len(fresh)} records are new, {found.accepted} were taken for new")
        for each in fresh.values():
            each.accepted = self.tick

    # --- workers --------------------------------------------------------------------------------------------------

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
            self._holds(worker, self._transact(lambda tx: claims.claim(tx, self.route, worker=worker.name)), since)
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
        worker.held, worker.since, worker.claimed, worker.call, worker.result, worker.judged = (
            held,
            since,
            self.tick,
            None,
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
        result = self.recovery._call(self.route, worker.held, worker.since)
        if len(self.api.calls) > calls:
            worker.call = self.api.calls[-1]
        else:
            self._end(worker, result)

    def _end(self, worker: Worker, result: SyncResult, *, open_until: float = 0.0) -> None:
        """End a call; the worker judges it, and writes it down in another step."""
        assert worker.held is not None
        worker.result = result
        worker.judged = self.recovery._judge(self.route, worker.held, result)
        if worker.call is not None:
            worker.call.open_until = open_until
            worker.call.succeeded = worker.judged[0].outcome is Outcome.SUCCESS

    def _settle(self, worker: Worker, *, go_on: bool) -> None:
        """Write a call's end down, however late; a worker that goes on claims its next job in the same transaction."""
        assert worker.held is not None
        assert worker.judged is not None
        assert worker.result is not None
        (ending, decision), since, unknown = worker.judged, self.seconds(), worker.result.unknown
        known = self._attempt_is_known(worker.held.token)
        settled, following = self.recovery._settle(
            self.route, worker.held, ending, decision, unknown=unknown, go_on=go_on, since=worker.since
        )
        if worker.call is not None:
            worker.call.written_down = known
        self.paused |= decision.pause and not settled.late
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

    # --- time and sweeps ------------------------------------------------------------------------------------------

    def wait(self, seconds: float, sweep: bool) -> None:  # noqa: FBT001 - drawn
        """Let time pass, with or without beat; NEXT: until something is due, a lease or a rest is over, or the route may call."""
        self.pass_time(seconds or self._until_next() / 1000)
        if sweep:
            self._rescue()

    def lease_ends(self) -> None:
        """Let all workers be paused until a lease is over and taken."""
        with self.ledger.begin(read_only=True) as tx:
            until = tx.connection.exec_driver_sql("SELECT min(lease_until) FROM jobs").scalar()
        if until is not None:
            self.pass_time(max(until - self.clock.now, 0) / 1000)
            self._rescue()

    def _until_next(self) -> int:
        with self.ledger.begin(read_only=True) as tx:
            times = [moment for row in tx.connection.exec_driver_sql(_MOMENTS) for moment in row]
        return min([moment - self.clock.now for moment in times if moment and moment > self.clock.now], default=1000)

    def _rescue(self) -> None:
        self._as_sweeper(self.sweeps.rescue)

    def prune(self, after: float) -> None:
        """Let time pass, and prune. No reader holds a batch for an hour: it would write down what its source gave to another."""
        if after >= RETENTION:
            self.reading.clear()
        self.pass_time(after)
        before = self._standings()
        self._as_sweeper(lambda: self.sweeps.prune(keep=KEEP, batch=2))
        for place in before.keys() - self._standings().keys():
            demand(before[place] in {"recovered", "discarded"}, "nothing lost", f"a {before[place]} letter was pruned")
            self.pruned[place[0], before[place]] += 1

    def _standings(self) -> dict[tuple[str, str], str]:
        with self.ledger.begin(read_only=True) as tx:
            return standings(self._rows(tx))

    def _as_sweeper(self, sweep: Any) -> None:
        Actor.skew = 60.0  # beat's machine has a clock of its own
        sweep()
        Actor.skew = 0.0

    # --- people ---------------------------------------------------------------------------------------------------

    def person(self, number: int, act: str) -> None:
        """Look at a job; discard or replay what was seen a while ago (a replay undoes a discard, too); pause and resume."""
        self.tick += 1
        key = key_of(number)
        if act == "look" or (act != "pause" and key not in self.seen):
            self._look(key)
        elif act == "pause":
            self._transact(lambda tx: gates.pause_route(tx, "employees", by="ops", reason=""))
            self.paused = True
        else:
            self._act_upon(key, operations.discard if act == "discard" else operations.replay)

    def _look(self, key: str) -> None:
        with self.ledger.begin(read_only=True) as tx:
            job_id = tx.connection.scalar(select(jobs.c.id).where(jobs.c.key == key))
            found = operations.seen(tx, job_id) if job_id is not None else None
        if job_id is not None and found is not None:
            self.seen[key] = (job_id, *found, self._attached(key))

    def _attached(self, key: str) -> int:
        """Count the needs of a key so far, as the model knows them."""
        return sum(key in each.keys for each in self.sent if each.accepted)

    def _act_upon(self, key: str, act: Any) -> None:
        job_id, state, last_seq, attached = self.seen.pop(key)
        if self._transact(lambda tx: act(tx, job_id, state=state, last_seq=last_seq)):
            demand(self._attached(key) == attached, "nothing lost", "a need came since the look, and the act went over it")

    def resume(self) -> None:
        self.tick += 1
        self._transact(lambda tx: gates.resume_route(tx, "employees"))
        self.paused = False

    def _transact(self, work: Any) -> Any:
        return self.ledger.transact(work)

    # --- what must hold -------------------------------------------------------------------------------------------

    @invariant()
    def guarantees_hold(self) -> None:
        with self.ledger.begin(read_only=True) as tx:
            changes = tx.connection.connection.driver_connection.total_changes  # type: ignore[union-attr]
            if changes == self.checked:
                return
            self.checked = changes
            rows = self._rows(tx)
            self._check_coverage(rows)
            self._check_budgets(tx)
            self._check_sums(audit.audit(tx), standings(rows))

    def _rows(self, tx: Transaction) -> list[Any]:
        """Return each letter, once for each of its needs."""
        return list(tx.connection.exec_driver_sql(_LETTERS))

    def _check_coverage(self, rows: list[Any]) -> None:
        """Compare each need's standing in the ledger with the calls that the API saw."""
        known = {(each.source, each.identity): each for each in self.sent if each.accepted}
        for row in rows:
            if row.key is None:
                continue
            recorded = known[row.source, row.identity].accepted
            successes = [call for call in self.api.calls if call.key == row.key and call.succeeded]
            proof = any(call.began > recorded for call in successes)
            demand(proof or not row.covered, "covered means covered", f"no success of {row.key} began after {row.identity} came")
            told = any(call.claimed > recorded and call.written_down for call in successes)
            demand(
                row.covered or not told, "covered means covered", f"{row.identity} needs {row.key}: its success was written down"
            )
            demand(row.covered or row.state != "completed", "nothing lost", f"{row.key} is completed without {row.identity}")
            tried = self.claims.get(row.key, 0) > recorded
            demand(tried or row.covered or row.state != "parked", "nothing lost", f"{row.key} parked untried for {row.identity}")

    def _check_budgets(self, tx: Transaction) -> None:
        called = Counter(call.key for call in self.api.calls)
        for job in tx.connection.exec_driver_sql("SELECT key, attempts, misses, crashes FROM jobs"):
            demand(job.attempts <= POLICY.max_attempts, "bounded", f"{job.attempts} attempts are spent")
            demand(job.attempts <= called[job.key], "bounded", f"{job.attempts} attempts are spent on {called[job.key]} calls")
            demand(job.misses <= POLICY.max_misses, "bounded", f"{job.misses} misses")
            demand(job.crashes <= MAX_CRASHES, "bounded", f"{job.crashes} crashes")

    def _check_sums(self, found: audit.Audit, here: dict[tuple[str, str], str]) -> None:
        sums = Counter(self.pruned)
        for (source, _), name in here.items():
            sums[source, name] += 1
        for source in ("queue", "celery"):
            accepted = sum(1 for each in self.sent if each.accepted and each.source == source)
            says = found.sources.get(source, audit.Sums())
            demand(
                says.accepted == accepted, "nothing lost", f"{accepted} came in from {source}, the ledger counts {says.accepted}"
            )
            demand(says.balanced, "nothing lost", says)
            for name in audit.STANDINGS:
                demand(getattr(says, name) == sums[source, name], "nothing lost", f"{name}: {says}, the rows say {sums}")

    # --- the end --------------------------------------------------------------------------------------------------

    def teardown(self) -> None:
        """Drive the system to rest: every need must come to recovered, parked or discarded. Then let the audit find a loss."""
        if sys.exc_info()[0] is None and hasattr(self, "recovery"):
            self._come_to_rest()
            self.guarantees_hold()
            self._audit_finds_a_loss()

    def _come_to_rest(self) -> None:
        for place in list(self.reading):
            self._write(place)
        for number in (0, 1):
            self._kill(number)
        self.resume()
        for _ in range(200):
            self._rescue()
            self.work(0, until="idle", answer="success")
            if self._is_at_rest():
                return
            self.pass_time(self._until_next() / 1000)
        raise Violated("healing: work is left that never comes to rest")

    def _is_at_rest(self) -> bool:
        with self.ledger.begin(read_only=True) as tx:
            busy = select(jobs.c.id).where(jobs.c.state.in_((State.SCHEDULED, State.RETRYABLE, State.EXECUTING)))
            demand(
                audit.audit(tx).pending == 0 or tx.connection.execute(busy).first() is not None, "healing", "a need is stranded"
            )
            return tx.connection.execute(busy).first() is None

    def _audit_finds_a_loss(self) -> None:
        """Take one letter away behind the ledger's back: accepted is counted apart from the rows, so the audit must miss it."""
        with self.ledger.begin() as tx:
            victim = tx.connection.scalar(select(dead_letters.c.id).limit(1))
            if victim is not None:
                tx.connection.execute(delete(dead_letters).where(dead_letters.c.id == victim))
                demand(audit.audit(tx).lost == 1, "nothing lost", "a letter was taken away, and the audit does not miss it")
            tx.connection.rollback()


_LETTERS = """
SELECT d.source, d.identity, d.reject_reason, j.key, j.state, n.seq <= j.covered_seq AS covered
FROM dead_letters d LEFT JOIN needs n ON n.dead_letter_id = d.id LEFT JOIN jobs j ON j.id = n.job_id
"""
_MOMENTS = """
SELECT due_at, lease_until, rest_until FROM jobs WHERE state IN ('scheduled', 'retryable', 'executing')
UNION ALL SELECT not_before, probe_at, 0 FROM routes
"""
_WORST = ["recovered", "discarded", "parked", "pending", "rejected"]


def standings(rows: list[Any]) -> dict[tuple[str, str], str]:
    """Return what has become of each letter, reckoned need by need."""
    found: dict[tuple[str, str], str] = {}
    for row in rows:
        open_need = row.state if row.state in {"discarded", "parked"} else "pending"
        now = "rejected" if row.reject_reason else "recovered" if row.covered else open_need
        place = (row.source, row.identity)
        found[place] = max(found.get(place, now), now, key=_WORST.index)
    return found


def run(ledger: Ledger, *, examples: int) -> None:
    """Let Hypothesis run the machine on an empty ledger in memory. Raises Violated, with the fewest acts it found as notes."""
    machine = type("LedgerMachine", (LedgerMachine,), {"ledger": ledger})
    run_state_machine_as_test(machine, settings=settings(SETTINGS, max_examples=examples))


def wander(ledger: Ledger, *acts: str, walks: int, steps: int = 30) -> None:
    """Run the machine on fixed seeds, with those acts alone: quicker than Hypothesis where there is something to be found."""
    machine = type("LedgerMachine", (LedgerMachine,), {"ledger": ledger})
    for seed in range(walks):
        choose = random.Random(seed).choice
        walk = machine()
        walk.begin(limit=choose(LIMITS), drain=choose(DRAINS))
        for _ in range(steps):
            name = choose(acts)
            getattr(walk, name)(**{what: choose(choices) for what, choices in ACTS[name][1].items()})
            walk.guarantees_hold()
        walk.teardown()


def in_memory() -> Iterator[Ledger]:
    """Yield a ledger for `run`, and close it: the body of a fixture."""
    ledger = Ledger("sqlite://", clock=ManualClock())
    metadata.create_all(ledger.engine)
    yield ledger
    ledger.close()
