"""Locks and clocks in one order (rules 3 and 11): interleavings that no single thread reaches, each with its rule on and off."""

import contextlib
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from doubles.manual_clock import ManualClock
from ledger_bench import SQLITE, A, B, Bench, C, a_letter, open_bench
from sqlalchemy import Connection, event, update
from waiting import TEST_TIMEOUT

from tasks.dlq.calls.outcome import CallEnd, Outcome
from tasks.dlq.errors import LedgerUnavailable
from tasks.dlq.job import Claim
from tasks.dlq.ledger import Ledger, Transaction, claims, dead_letters, rescue, routes, settlement, sqlite, wakeups
from tasks.dlq.ledger.routes import LockedRoute, lock_route
from tasks.dlq.ledger.schema import jobs


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT", 5.0)
    yield from open_bench(SQLITE, tmp_path)


COUNT_OCCUPIED = LockedRoute.count_occupied

# --- rule 3: the count and the claim under one lock ------------------------------------------------------------------


def race(bench: Bench, counted: dict[int, int]) -> list[Claim]:
    """Let two workers count the slots in use, and claim only once both have counted."""
    bench.put_due(A)
    bench.put_due(B)
    both_counted, found = threading.Barrier(2), []

    def work() -> None:
        ledger = bench.connect()
        with ledger.begin(read_only=True) as tx:
            counted[threading.get_ident()] = COUNT_OCCUPIED(LockedRoute(tx, bench.route, {}))
        both_counted.wait(TEST_TIMEOUT)
        found.append(ledger.transact(lambda tx: claims.claim(lock_route(tx, bench.route), worker="w")))
        ledger.close()

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TEST_TIMEOUT)
    return [held for held in found if held is not None]


def test_two_claims_that_both_saw_a_free_slot_are_one(bench: Bench):
    assert len(race(bench, {})) == 1


def test_rule_3_off_two_claims_that_counted_before_the_lock_both_call(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    counted: dict[int, int] = {}
    monkeypatch.setattr(LockedRoute, "count_occupied", lambda _: counted[threading.get_ident()])

    assert len(race(bench, counted)) == 2  # the route allows one


# --- rule 11: writers stand in line before they read -----------------------------------------------------------------


def claim_while_another_writes(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Claim | None:
    """Claim in one transaction; between its read and its write another writer comes."""
    bench.put_due(A)
    monkeypatch.setattr(sqlite, "BUSY_TIMEOUT", 0.05)
    first, second = bench.connect(), bench.connect()
    try:
        with first.begin() as tx:
            locked = lock_route(tx, bench.route)
            with contextlib.suppress(LedgerUnavailable):  # it stands in line until its patience is over
                second.transact(lambda tx: dead_letters.record_dead_letters(tx, [a_letter(B)], delays={"employees": 0.0}))
            return claims.claim(locked, worker="w")
    finally:
        first.close()
        second.close()


def test_a_transaction_that_reads_and_then_writes_is_never_overtaken(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    bench.do(routes.ensure_routes, ["employees"])

    assert claim_while_another_writes(bench, monkeypatch) is not None


def test_rule_11_off_a_transaction_that_begins_deferred_is_overtaken_and_fails(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    bench.do(routes.ensure_routes, ["employees"])
    monkeypatch.setattr(sqlite, "_begin", lambda connection: connection.exec_driver_sql("BEGIN"))

    with pytest.raises(LedgerUnavailable, match="locked"):
        claim_while_another_writes(bench, monkeypatch)


# --- rule 11: route before job, letters and keys sorted, and the clock after the lock --------------------------------


class WatchedClock(ManualClock):
    """A clock that notes when it is read."""

    def __init__(self, trace: list[str], now: int) -> None:
        super().__init__(now)
        self._trace = trace

    def read(self, connection: Connection) -> int:
        self._trace.append("clock")
        return super().read(connection)


def trace(bench: Bench, work: Callable[[Transaction], Any]) -> list[str]:
    """Return what a transaction touches, in order: clock, route, job; letters and keys by name where they are written."""
    found: list[str] = []

    def note(_conn: object, _cursor: object, statement: str, parameters: Any, *_rest: object) -> None:
        words = [value for value in parameters if isinstance(value, str)]
        if statement.startswith("INSERT INTO dead_letters"):
            found.extend(word for word in words if re.fullmatch(r"m-\w+", word))
        elif statement.startswith("INSERT INTO jobs"):
            found.extend(word for word in words if word.startswith("{"))
        elif re.search(r"\b(FROM|UPDATE|INTO) routes\b", statement):
            found.append("route")
        elif re.search(r"\b(FROM|UPDATE|INTO) (jobs|attempts)\b", statement):
            found.append("job")

    ledger = Ledger(bench.url, clock=WatchedClock(found, bench.clock.now))
    event.listen(ledger.engine, "before_cursor_execute", note)
    ledger.transact(work)
    ledger.close()
    return found


def settle_and_claim(tx: Transaction, bench: Bench) -> None:
    end = CallEnd(outcome=Outcome.CONFLICT)
    with bench.ledger.begin(read_only=True) as look:
        token, job_id = look.connection.exec_driver_sql("SELECT token, id FROM jobs WHERE token IS NOT NULL").one()
    held = Claim(
        job_id=job_id,
        route="employees",
        key=A,
        parameters={},
        token=token,
        fence=1,
        number=1,
        covers_seq=1,
        attempts=0,
        misses=0,
    )
    locked = lock_route(tx, bench.route)
    settlement.settle(locked, held, end, settlement.judge(locked, held, end, chance=0.5))
    claims.claim(locked, worker="w")


UNDER_THE_ROUTE: dict[str, Callable[[Transaction, Bench], Any]] = {
    "claim": lambda tx, bench: claims.claim(lock_route(tx, bench.route), worker="w"),
    "settle and claim": settle_and_claim,
    "rescue": lambda tx, bench: rescue.rescue(lock_route(tx, bench.route)),
    "reserve": lambda tx, bench: wakeups.reserve_wakeups(lock_route(tx, bench.route), [1, 2]),
    "receive": lambda tx, bench: wakeups.receive_wakeup(lock_route(tx, bench.route), 1),
    "follow up": lambda tx, bench: wakeups.reserve_follow_up(lock_route(tx, bench.route)),
    "promote": lambda tx, bench: wakeups.promote_due_jobs(lock_route(tx, bench.route)),
}


def is_in_order(bench: Bench, name: str) -> bool:
    """Tell whether the act locks the route first, and only then reads the clock and touches jobs."""
    bench.put_due(A)
    bench.claimed()
    bench.put_due(B)
    bench.clock.advance(3600)
    found = trace(bench, lambda tx: UNDER_THE_ROUTE[name](tx, bench))
    return found[0] == "route" and {"clock", "job"} <= set(found)


@pytest.mark.parametrize("name", UNDER_THE_ROUTE)
def test_the_route_is_locked_before_the_clock_is_read_and_before_any_job(bench: Bench, name: str):
    assert is_in_order(bench, name)


def test_rule_11_off_a_clock_that_is_read_before_the_lock_shows(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    def clock_first(tx: Transaction, bench: Bench) -> Any:
        tx.now()
        return claims.claim(lock_route(tx, bench.route), worker="w")

    monkeypatch.setitem(UNDER_THE_ROUTE, "claim", clock_first)

    assert not is_in_order(bench, "claim")


def test_rule_11_off_a_job_that_is_locked_before_its_route_shows(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    def job_first(tx: Transaction, bench: Bench) -> None:
        tx.connection.execute(update(jobs).where(jobs.c.route == bench.route.name).values(wakeup_until=None))
        settle_and_claim(tx, bench)

    monkeypatch.setitem(UNDER_THE_ROUTE, "settle and claim", job_first)

    assert not is_in_order(bench, "settle and claim")


def written(bench: Bench) -> list[str]:
    batch = [a_letter(C, A, identity="m-2"), a_letter(B, identity="m-3"), a_letter(A, identity="m-1")]
    found = trace(bench, lambda tx: dead_letters.record_dead_letters(tx, batch, delays={"employees": 0.0}))
    return [step for step in found if step.startswith(("m-", "{"))]


def test_letters_and_then_keys_are_locked_in_sorted_order(bench: Bench):
    assert written(bench) == ["m-1", "m-2", "m-3", A, B, C]


def test_rule_11_off_unsorted_keys_show(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(dead_letters, "sorted", lambda items, **_: list(items), raising=False)

    assert written(bench) == ["m-2", "m-3", "m-1", C, A, B]
