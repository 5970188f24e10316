"""The sweeps: each brings every job on, is bounded, and does no harm when two run at once."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ledger_bench import COMPANIES, EMPLOYEES, URLS, A, B, Bench, WakeupRecorder, a_letter, open_bench

from tasks.dlq.calls.outcome import Outcome
from tasks.dlq.errors import BrokerUnavailable, LedgerUnavailable
from tasks.dlq.job import State
from tasks.dlq.ledger import wakeups
from tasks.dlq.services.maintenance import Maintenance, Pruned

A_DAY = 86400.0
NARROW = replace(EMPLOYEES, window=5)
ROUTES = {"employees": EMPLOYEES, "companies": COMPANIES}


@pytest.fixture(params=URLS)
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    yield from open_bench(request.param, tmp_path)


@pytest.fixture
def sender() -> WakeupRecorder:
    return WakeupRecorder()


@pytest.fixture
def sweeps(bench: Bench, sender: WakeupRecorder) -> Maintenance:
    return Maintenance(bench.ledger, ROUTES, sender)


def test_promote_rings_for_each_route_that_nobody_comes_for(bench: Bench, sweeps: Maintenance, sender: WakeupRecorder):
    bench.put(a_letter(A), a_letter(A, route="companies"), delay=0.0)

    assert sweeps.promote() == 2
    assert sorted(sender.sent) == sorted((bench.job(A, name)["id"], 0.0) for name in ROUTES)
    assert sweeps.promote() == 0


def test_two_beats_ring_once(bench: Bench, sweeps: Maintenance, sender: WakeupRecorder):
    bench.put(a_letter(A), delay=0.0)
    other = Maintenance(bench.ledger, ROUTES, sender)

    assert sweeps.promote() + other.promote() == 1


def test_a_broker_that_is_gone_is_no_error_and_the_next_sweep_rings(bench: Bench, sweeps: Maintenance, sender: WakeupRecorder):
    bench.put(a_letter(A), delay=0.0)
    sender.broken = True
    assert sweeps.promote() == 0
    sender.broken = False
    assert sweeps.promote() == 1  # without patience: nobody has heard the bell that was not rung


def test_a_worker_that_starts_is_rung_for_at_once(bench: Bench, sweeps: Maintenance):
    bench.put(a_letter(A), delay=0.0)
    while_nobody_comes(bench, sweeps)
    sweeps.note_worker_start()
    assert sweeps.promote() == 1


def test_so_is_one_that_starts_while_the_ledger_is_away(bench: Bench, sweeps: Maintenance, monkeypatch: pytest.MonkeyPatch):
    bench.put(a_letter(A), delay=0.0)
    while_nobody_comes(bench, sweeps)
    with monkeypatch.context() as patch:
        patch.setattr(bench.ledger, "transact", away)
        sweeps.note_worker_start()
        with pytest.raises(LedgerUnavailable):
            sweeps.promote()
    assert sweeps.promote() == 1
    assert sweeps.promote() == 0


def away(*_: Any) -> Any:
    raise LedgerUnavailable("away")


def while_nobody_comes(bench: Bench, sweeps: Maintenance) -> None:
    for wait in (9, 18, 9):
        sweeps.promote()
        bench.clock.advance(wait)
    assert sweeps.promote() == 0


@pytest.mark.parametrize("there", [0, 40])
def test_bells_that_the_queue_no_longer_holds_leave_their_places(bench: Bench, sender: WakeupRecorder, there: int):
    sweeps = Maintenance(bench.ledger, {"employees": NARROW}, sender, count_queued=lambda: there)
    fill_all_places(bench)
    rung = len(sender.sent)
    assert sweeps.promote() == (1 if there == 0 else 0)
    assert bench.do(wakeups.count_outstanding, "employees", bench.clock.now) == (
        1 if there == 0 else NARROW.window + wakeups.SPARE_PLACES
    )
    assert len(sender.sent) == rung + (there == 0)


def test_a_queue_that_cannot_be_counted_changes_nothing(bench: Bench, sender: WakeupRecorder):
    sweeps = Maintenance(bench.ledger, {"employees": NARROW}, sender, count_queued=gone)
    fill_all_places(bench)
    assert sweeps.promote() == 0
    assert bench.do(wakeups.count_outstanding, "employees", bench.clock.now) == NARROW.window + wakeups.SPARE_PLACES


def gone() -> int:
    raise BrokerUnavailable("gone")


def fill_all_places(bench: Bench) -> None:
    """Have as many bells out as may be, all of them rung more than a minute ago."""
    bench.route = NARROW
    keys = [f'{{"employeeId":"{number}"}}' for number in range(1, 40)]
    bench.put(*map(a_letter, keys), delay=0.0)
    bench.reserve(list(range(1, 40)))
    while bench.do(wakeups.count_outstanding, "employees", bench.clock.now) < NARROW.window + wakeups.SPARE_PLACES:
        bench.clock.advance(wakeups.LONGEST_TIMEOUT / 1000)
        bench.promote()
    bench.clock.advance(61)


def test_rescue_takes_back_the_leases_of_every_route_once(bench: Bench, sweeps: Maintenance):
    bench.put(a_letter(A), a_letter(A, route="companies"), delay=0.0)
    bench.claimed()
    bench.claimed(route=COMPANIES)
    assert sweeps.rescue() == 0
    bench.clock.advance(EMPLOYEES.lease)

    assert sweeps.rescue() == 2
    assert sweeps.rescue() == 0
    assert bench.state() is State.RETRYABLE


def test_a_rescued_job_is_rung_for_once_it_has_rested(bench: Bench, sweeps: Maintenance, sender: WakeupRecorder):
    bench.put_due(A)
    bench.claimed()
    bench.clock.advance(EMPLOYEES.lease)
    sweeps.rescue()
    assert sweeps.promote() == 0
    bench.clock.advance(EMPLOYEES.drain)
    assert sweeps.promote() == 1
    assert sender.sent


def test_prune_removes_what_is_over_for_as_long_as_asked_and_reports_it(bench: Bench, sweeps: Maintenance):
    for _ in range(5):
        bench.put_due(A)
        bench.call()
    bench.put_due(B)
    bench.call(Outcome.HOPELESS)
    bench.clock.advance(15 * A_DAY)
    assert sweeps.prune(keep=15 * A_DAY) == Pruned()
    bench.clock.advance(1)

    assert sweeps.prune(keep=15 * A_DAY, batch=2) == Pruned(letters=5, jobs=1)
    assert sweeps.prune(keep=15 * A_DAY) == Pruned()
    assert bench.sums() == {"accepted": 6, "recovered": 5, "parked": 1}


def test_prune_is_bounded(bench: Bench, sweeps: Maintenance):
    bench.put(*[a_letter(A) for _ in range(7)], delay=0.0)
    bench.call()
    bench.clock.advance(A_DAY)

    assert sweeps.prune(keep=60.0, batch=2, batches=2).letters == 4


def test_a_paused_route_rings_nothing_and_is_rescued_all_the_same(bench: Bench, sweeps: Maintenance):
    bench.put(a_letter(A), a_letter(B), delay=0.0)
    bench.claimed()
    bench.pause(by="ops", reason="")
    bench.clock.advance(A_DAY)

    assert (sweeps.rescue(), sweeps.promote()) == (1, 0)
