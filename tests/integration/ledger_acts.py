"""What may happen around a ledger: the acts of sources, sweeps and people, one transaction a step.

Each act runs the services' own code and tells the model what it should know of it. Time stands still in between.
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar

from ledger_promises import letters_of, standings
from ledger_world import (
    HUNG,
    KEEP,
    READER,
    RETENTION,
    ROUTE,
    SUBMISSIONS,
    Actor,
    Api,
    Sent,
    Violated,
    Worker,
    demand,
    key_of,
)
from sqlalchemy import delete, select, text

from tasks.dlq.dead_letter import DeadLetter  # noqa: TC001 - names of types, read like any other
from tasks.dlq.job import State
from tasks.dlq.ledger import Ledger, dead_letters, operations
from tasks.dlq.ledger.routes import lock_route
from tasks.dlq.ledger.schema import jobs, metadata
from tasks.dlq.ports import Record
from tasks.dlq.reading.reader import encode_submission
from tasks.dlq.services.maintenance import Maintenance
from tasks.dlq.services.recovery import Recovery

if TYPE_CHECKING:
    from doubles.manual_clock import ManualClock


class World:
    """The state of the world, its time, and the acts of all but the workers."""

    ledger: ClassVar[Ledger]

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

    def open(self, limit: int, drain: float) -> None:
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

    def send(self, job_id: int, *, delay: float) -> None:
        """Send a wake-up by a broker that loses everything."""

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

    # --- sources --------------------------------------------------------------------------------------------------

    def read(self, about: list[list[int]], what: str, at_once: bool) -> None:  # noqa: FBT001 - drawn
        """Take a batch off the wire. It is written down at once, later, or never."""
        if len(self.reading) == 2:
            self._write(0)
        self.tick += 1
        recent = [each for each in self.sent if self.clock.now - each.first_at <= RETENTION * 1000]
        if what == "again":  # everything is delivered twice: nobody acknowledged it, or its source does so by nature
            batch = recent
        elif what == "submission":  # its producer chooses an id, and chooses it again for another entity
            body = encode_submission("employees", {"id": about[0][0]})
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
                lambda tx: dead_letters.record_dead_letters(
                    tx, [letter for _, letter in batch], delays={"employees": ROUTE.delay}
                )
            )
        except Exception as error:
            raise Violated(f"nothing lost: one row cost the whole batch: {error!r}") from error
        demand(found.accepted == len(fresh), "nothing lost", f"{len(fresh)} records are new, {found.accepted} were taken for new")
        for each in fresh.values():
            each.accepted = self.tick

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
            return standings(letters_of(tx))

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
            self._transact(lambda tx: lock_route(tx, self.route).pause(by="ops", reason=""))
            self.paused = True
        else:
            self._act_upon(key, operations.discard if act == "discard" else operations.replay)

    def _look(self, key: str) -> None:
        with self.ledger.begin(read_only=True) as tx:
            job_id = tx.connection.scalar(select(jobs.c.id).where(jobs.c.key == key))
            for row in operations.find_jobs(tx, [job_id]):
                self.seen[key] = (row.id, State(row.state), row.last_seq, self._attached(key))

    def _attached(self, key: str) -> int:
        """Count the needs of a key so far, as the model knows them."""
        return sum(key in each.keys for each in self.sent if each.accepted)

    def _act_upon(self, key: str, act: Any) -> None:
        job_id, state, last_seq, attached = self.seen.pop(key)
        if self._transact(lambda tx: act(tx, job_id, state=state, last_seq=last_seq)):
            demand(self._attached(key) == attached, "nothing lost", "a need came since the look, and the act went over it")

    def resume(self) -> None:
        self.tick += 1
        self._transact(lambda tx: lock_route(tx, self.route).resume())
        self.paused = False

    def _transact(self, work: Any) -> Any:
        return self.ledger.transact(work)


_MOMENTS = """
SELECT due_at, lease_until, rest_until FROM jobs WHERE state IN ('scheduled', 'retryable', 'executing')
UNION ALL SELECT not_before, probe_at, 0 FROM routes
"""
