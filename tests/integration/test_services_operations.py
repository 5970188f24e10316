"""The operator services: compare-and-set, the audit log in the same transaction, and wake-ups after the commit."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from ledger_bench import EMPLOYEES, URLS, A, B, Bench, WakeupRecorder, open_bench
from sqlalchemy import select

from tasks.dlq.calls.outcome import Outcome
from tasks.dlq.errors import BrokerUnavailable, LedgerOutdated
from tasks.dlq.job import State
from tasks.dlq.ledger.operations import Seen
from tasks.dlq.ledger.schema import audit_log
from tasks.dlq.services.operations import Operations, Result

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tasks.dlq.services.operations import Changed

PARKED = Seen(State.PARKED, 1)


@pytest.fixture(params=URLS)
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    yield from open_bench(request.param, tmp_path)


@pytest.fixture
def sender() -> WakeupRecorder:
    return WakeupRecorder()


@pytest.fixture
def service(bench: Bench, sender: WakeupRecorder) -> Operations:
    return Operations(bench.ledger, {EMPLOYEES.name: EMPLOYEES}, sender)


def park(bench: Bench, key: str = A) -> int:
    job_id = bench.put_due(key)
    bench.call(Outcome.HOPELESS)
    return job_id


def results(changed: Changed) -> list[tuple[int, str, str]]:
    return [(job.job_id, job.result, job.reason) for job in changed.jobs]


def read_audit_log(bench: Bench) -> list[tuple[Any, ...]]:
    column = audit_log.c
    statement = select(column.actor, column.action, column.subject, column.reason).order_by(column.id)
    with bench.ledger.begin(read_only=True) as tx:
        return [tuple(row) for row in tx.connection.execute(statement)]


def test_a_replay_opens_the_job_writes_the_audit_log_and_wakes_a_worker(
    bench: Bench, sender: WakeupRecorder, service: Operations
):
    job_id = park(bench)
    changed = service.replay({job_id: PARKED}, actor="alice", reason="the API is fixed")
    assert results(changed) == [(job_id, Result.DONE, "")]
    assert (changed.wakeups.paused, changed.wakeups.error) == ([], None)
    assert bench.state() is State.SCHEDULED
    assert read_audit_log(bench) == [("alice", "replay", f"job {job_id}", "the API is fixed")]
    assert [job for job, _ in sender.sent] == [job_id]


def test_each_job_has_a_result_in_the_order_of_the_request(bench: Bench, sender: WakeupRecorder, service: Operations):
    parked, waiting = park(bench, B), bench.put_due(A)
    seen = {404: None, waiting: Seen(State.SCHEDULED, 1), parked: PARKED}
    assert results(service.replay(seen, actor="alice")) == [
        (404, Result.NOT_FOUND, ""),
        (waiting, Result.SKIPPED, "it is scheduled"),
        (parked, Result.DONE, ""),
    ]
    assert len(read_audit_log(bench)) == 1
    assert len(sender.sent) == 1


@pytest.mark.parametrize("seen", [Seen(State.PARKED, 2), Seen(State.COMPLETED, 1), None])
def test_a_job_that_is_not_as_it_was_seen_is_skipped(
    bench: Bench, sender: WakeupRecorder, service: Operations, seen: Seen | None
):
    job_id = park(bench)
    for change in (service.replay, service.discard):
        assert results(change({job_id: seen}, actor="alice")) == [(job_id, Result.SKIPPED, "changed meanwhile")]
    assert bench.state() is State.PARKED
    assert (read_audit_log(bench), sender.sent) == ([], [])


def test_a_job_of_a_route_that_is_not_configured_can_be_discarded_but_not_replayed(bench: Bench, sender: WakeupRecorder):
    job_id = park(bench)
    service = Operations(bench.ledger, {}, sender)
    assert results(service.replay({job_id: PARKED}, actor="alice")) == [
        (job_id, Result.SKIPPED, "its route is not in redrive.toml")
    ]
    assert results(service.discard({job_id: PARKED}, actor="alice")) == [(job_id, Result.DONE, "")]
    assert bench.state() is State.DISCARDED


def test_without_its_entry_in_the_audit_log_nothing_is_changed(bench: Bench, sender: WakeupRecorder, service: Operations):
    job_id = park(bench)
    bench.execute("ALTER TABLE audit_log RENAME TO gone")
    for change in (service.replay, service.discard):
        with pytest.raises(LedgerOutdated):
            change({job_id: PARKED}, actor="alice")
    with pytest.raises(LedgerOutdated):
        service.pause(EMPLOYEES, actor="alice")
    assert bench.state() is State.PARKED
    assert [row["paused_at"] for row in bench.rows("routes")] == [None]
    assert sender.sent == []


def test_paused_routes_and_wakeups_that_were_not_sent_are_values(bench: Bench, sender: WakeupRecorder, service: Operations):
    first, second = park(bench, A), park(bench, B)
    assert service.pause(EMPLOYEES, actor="alice", reason="deploy") is True
    assert service.pause(EMPLOYEES, actor="bob", reason="other") is False
    changed = service.replay({first: PARKED}, actor="alice")
    assert (changed.wakeups.paused, changed.wakeups.error, sender.sent) == ([EMPLOYEES.name], None, [])

    sender.broken = True
    resumed = service.resume(EMPLOYEES, actor="alice")
    assert resumed.changed
    assert isinstance(resumed.unsent, BrokerUnavailable)
    assert isinstance(service.replay({second: PARKED}, actor="alice").wakeups.error, BrokerUnavailable)

    sender.broken = False
    resumed = service.resume(EMPLOYEES, actor="alice")
    assert (resumed.changed, resumed.unsent) == (False, None)
    assert len(sender.sent) == 1, "also if the route was not paused; what was not sent before does not count as on its way"
    assert [entry[:3] for entry in read_audit_log(bench)] == [
        ("alice", "pause", "route employees"),
        ("alice", "replay", f"job {first}"),
        ("alice", "resume", "route employees"),
        ("alice", "replay", f"job {second}"),
    ]
