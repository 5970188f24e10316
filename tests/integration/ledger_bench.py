"""A ledger with a clock that is moved by hand, and short ways to act on it: what the ledger's tests stand on.

The tests run on a SQLite file and on PostgreSQL: an embedded server's, or the one of which REDRIVE_TEST_POSTGRESQL holds the
URL of an empty database (which is wiped; not with several test processes).
"""

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Any

import postgresql_server
from doubles.manual_clock import ManualClock
from sqlalchemy import func, select, text

from tasks.dlq.calls.breaker import FAULTS
from tasks.dlq.calls.outcome import CallEnd, Outcome
from tasks.dlq.calls.retry import Decision, RetryPolicy, Verdict
from tasks.dlq.calls.route import Route
from tasks.dlq.dead_letter import DeadLetter, Rejection
from tasks.dlq.errors import BrokerUnavailable
from tasks.dlq.failures import group_key
from tasks.dlq.job import WAITING, Claim, Settled, State
from tasks.dlq.ledger import Ledger, Transaction, wakeups
from tasks.dlq.ledger.audit import Audit, audit
from tasks.dlq.ledger.claims import claim
from tasks.dlq.ledger.dead_letters import Recorded, record_dead_letters
from tasks.dlq.ledger.rescue import rescue
from tasks.dlq.ledger.routes import lock_route
from tasks.dlq.ledger.schema import attempts, dead_letters, jobs, metadata, needs, routes, tallies
from tasks.dlq.ledger.settlement import judge, settle

SQLITE, POSTGRESQL = "sqlite", "postgresql"
#: Where a ledger may be: what `open_bench` and `a_database` take.
URLS = [SQLITE, POSTGRESQL]
EMPLOYEES = Route(name="employees", url="http://127.0.0.1:1/employees/{employeeId}")
COMPANIES = Route(name="companies", url="http://127.0.0.1:1/companies/{companyId}")
A, B, C, D = (f'{{"employeeId":"{number}"}}' for number in (1, 2, 3, 4))
#: More waiting than any test needs, when a policy's own back-off does not matter.
RETRY = Decision(verdict=Verdict.RETRY, delay=5.0)
PARK = Decision(verdict=Verdict.PARK)
_TABLES = {table.name: table for table in (dead_letters, needs, jobs, attempts, routes, tallies)}
_numbers = count(1)


def a_letter(*keys: str, identity: str | None = None, source: str = "queue", route: str = "employees", **rest: Any) -> DeadLetter:
    """Return a dead letter that needs `keys`; with no key it is rejected."""
    return DeadLetter(
        source=source,
        identity=identity or f"m-{next(_numbers)}",
        body=rest.pop("body", b'{"employeeId": 1}'),
        route=route,
        keys=keys,
        rejection=None if keys else Rejection(reason="not-json", detail="the body is not JSON"),
        **rest,
    )


def count_unsettled(tx: Transaction) -> int:
    """Count the jobs that wait or execute: zero if there is nothing left to do."""
    return tx.connection.scalars(select(func.count()).where(jobs.c.state.in_((*WAITING, State.EXECUTING)))).one()


class Bench:
    """A ledger at the URL of a fresh database, with a manual clock."""

    def __init__(self, url: str, *, route: Route = EMPLOYEES) -> None:
        self.url = url
        self.clock = ManualClock()
        self.ledger = self.connect()
        self.route = route

    @property
    def sqlite(self) -> bool:
        return self.url.startswith("sqlite")

    def connect(self) -> Ledger:
        """Return another ledger at the same place, as another process has it."""
        return Ledger(self.url, clock=self.clock)

    def close(self) -> None:
        self.ledger.close()

    # --- acts -----------------------------------------------------------------------------------------------------

    def put(self, *letters: DeadLetter, delay: float = 30.0) -> Recorded:
        """Record a batch, as intake does."""
        return self.ledger.transact(lambda tx: record_dead_letters(tx, letters, delays={"employees": delay, "companies": delay}))

    def put_due(self, *keys: str) -> int:
        """Record one letter about `keys` whose jobs are due at once; return the id of the first one's job."""
        self.put(a_letter(*keys), delay=0.0)
        return self.job(keys[0])["id"]

    def claim(self, worker: str = "w", route: Route | None = None) -> Claim | None:
        return self.ledger.transact(lambda tx: claim(lock_route(tx, route or self.route), worker=worker))

    def claimed(self, worker: str = "w", route: Route | None = None) -> Claim:
        found = self.claim(worker, route)
        assert found is not None
        return found

    def settle(
        self,
        held: Claim,
        outcome: Outcome = Outcome.SUCCESS,
        decision: Decision | None = None,
        *,
        unknown: bool = False,
        retry_after: float | None = None,
        route: Route | None = None,
        status: int | None = None,
        detail: str = "",
    ) -> Settled:
        """End a claim's call with `outcome`; the route's policy decides unless `decision` is given."""
        target = route or self.route
        end = CallEnd(
            outcome=outcome,
            status=status,
            detail=detail,
            group_key=group_key(target.name, outcome, status, detail) if outcome is not Outcome.SUCCESS else None,
            unknown=unknown,
            retry_after=retry_after,
        )

        def work(tx: Transaction) -> Settled:
            locked = lock_route(tx, target)
            judged = judge(locked, held, end, chance=1.0)
            if decision and outcome in FAULTS and not judged.spend:  # behind an open breaker the policy's verdict does not count
                judged = replace(judged, delay=max(judged.delay, decision.delay))
            elif decision:
                judged = replace(decision, misses=judged.misses, breaker=judged.breaker, refund=judged.refund)
            return settle(locked, held, end, judged)

        return self.ledger.transact(work)

    def call(self, outcome: Outcome = Outcome.SUCCESS, decision: Decision | None = None, **how: Any) -> Settled:
        """Claim whatever is due and settle it with `outcome`."""
        return self.settle(self.claimed(route=how.get("route")), outcome, decision, **how)

    def rescue(self) -> list[int]:
        return self.ledger.transact(lambda tx: rescue(lock_route(tx, self.route)))

    def on_route(self, work: Callable[..., Any], *args: Any, **named: Any) -> Any:
        """Run one of the ledger's functions that take a locked route."""
        return self.ledger.transact(lambda tx: work(lock_route(tx, self.route), *args, **named))

    def pause(self, *, by: str = "ops", reason: str = "", route: Route | None = None) -> bool:
        return self.ledger.transact(lambda tx: lock_route(tx, route or self.route).pause(by=by, reason=reason))

    def resume(self, *, route: Route | None = None) -> bool:
        return self.ledger.transact(lambda tx: lock_route(tx, route or self.route).resume())

    def hold_until(self, moment: int, *, route: Route | None = None) -> None:
        """Let the route wait, as the API's Retry-After does; `moment` is in the ledger's milliseconds."""
        self.ledger.transact(lambda tx: lock_route(tx, route or self.route).hold_until(moment))

    def do(self, work: Callable[..., Any], *args: Any, **named: Any) -> Any:
        """Run one of the ledger's functions in a transaction of its own."""
        return self.ledger.transact(lambda tx: work(tx, *args, **named))

    def promote(self) -> list[tuple[int, float]]:
        return [(wakeup.job_id, wakeup.delay) for wakeup in self.on_route(wakeups.promote_due_jobs)]

    def reserve(self, job_ids: Sequence[int]) -> list[tuple[int, float]]:
        return [(wakeup.job_id, wakeup.delay) for wakeup in self.on_route(wakeups.reserve_wakeups, job_ids)]

    def follow_up(self) -> list[tuple[int, float]]:
        return [(wakeup.job_id, wakeup.delay) for wakeup in self.on_route(wakeups.reserve_follow_up)]

    # --- looks ----------------------------------------------------------------------------------------------------

    def rows(self, table: str) -> list[Mapping[str, Any]]:
        found = _TABLES[table]
        with self.ledger.begin(read_only=True) as tx:
            return list(tx.connection.execute(select(found).order_by(*found.primary_key)).mappings())

    def job(self, key: str, route: str = "employees") -> Mapping[str, Any]:
        with self.ledger.begin(read_only=True) as tx:
            found = select(jobs).where(jobs.c.key == key, jobs.c.route == route)
            return tx.connection.execute(found).mappings().one()

    def count_completed(self) -> int:
        return sum(row["state"] == State.COMPLETED for row in self.rows("jobs"))

    def state(self, key: str = A) -> State:
        return State(self.job(key)["state"])

    def due_in(self, key: str = A) -> float:
        """Return the seconds from now until the key's job is due."""
        return float(self.job(key)["due_at"] - self.clock.now) / 1000

    def seqs(self, key: str = A) -> list[int]:
        """Return the numbers of the key's needs."""
        job_id = self.job(key)["id"]
        return sorted(row["seq"] for row in self.rows("needs") if row["job_id"] == job_id)

    def audit(self) -> Audit:
        with self.ledger.begin(read_only=True) as tx:
            return audit(tx)

    def sums(self) -> dict[str, int]:
        """Return the audit's sums that are not zero; assert that they balance."""
        found = self.audit()
        assert found.balanced, found.as_dict()
        whole = found.as_dict()
        names = ("accepted", "recovered", "pending", "parked", "discarded", "rejected")
        return {name: whole[name] for name in names if whole[name]}

    def execute(self, statement: str, **values: Any) -> None:
        """Change the ledger behind its back."""
        with self.ledger.begin() as tx:
            tx.connection.execute(text(statement), values)


def wipe(ledger: Ledger) -> None:
    """Remove every table that there is."""
    with ledger.begin() as tx:
        metadata.drop_all(tx.connection)
        tx.connection.execute(text("DROP TABLE IF EXISTS alembic_version"))


def open_bench(kind: str, folder: Path) -> Iterator[Bench]:
    """Yield a bench on a fresh database and close it: the body of each test file's fixture."""
    with a_database(kind, folder) as url, closing(Bench(url)) as made:
        yield made


@contextmanager
def a_database(kind: str, folder: Path, *, empty: bool = False) -> Iterator[str]:
    """Yield the URL of a fresh database with the ledger's tables, or with nothing in it."""
    given = os.environ.get("REDRIVE_TEST_POSTGRESQL")
    if kind == POSTGRESQL and not given:
        with postgresql_server.shared().database(empty=empty) as url:
            yield url
        return
    url = given if kind == POSTGRESQL and given else f"sqlite:///{folder}/ledger.db"
    with closing(Ledger(url)) as ledger:
        wipe(ledger)
        if not empty:
            metadata.create_all(ledger.engine, checkfirst=False)  # what the migrations make: see test_ledger_migrations
    yield url


class WakeupRecorder:
    """Records the wake-ups that it is given; when `broken`, its broker does not answer."""

    def __init__(self) -> None:
        self.sent: list[tuple[int, float]] = []
        self.broken = False

    def send(self, job_id: int, *, delay: float) -> None:
        if self.broken:
            raise BrokerUnavailable("SQS does not answer")
        self.sent.append((job_id, delay))


def employee(number: object) -> bytes:
    """Return a body that needs one employee."""
    return json.dumps({"employeeId": number}).encode()


def bounded(max_attempts: int) -> RetryPolicy:
    return RetryPolicy(max_attempts=max_attempts, base=1.0, cap=10.0)
