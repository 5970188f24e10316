"""Commits that wait for a synchronous standby: until it has them nobody acts on them, whoever loses patience."""

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from typing import Any

import pytest
from ledger_bench import EMPLOYEES, A, Bench, WakeupRecorder
from postgresql_processes import Letters
from postgresql_server import EmbeddedPostgresql
from postgresql_standby import REPLICATES
from waiting import TEST_TIMEOUT, until

from tasks.dlq.errors import LedgerUnavailable
from tasks.dlq.job import State
from tasks.dlq.ledger import DatabaseClock
from tasks.dlq.ports import Record
from tasks.dlq.services.intake import Intake

ROUTE = replace(EMPLOYEES, delay=0.0, drain=0.0)
RECORDS = [Record(identity=f"m-{n}", body=f'["{{\\"employeeId\\":\\"{n}\\"}}"]'.encode()) for n in range(3)]
WAITS = "application_name = 'redrive' AND wait_event = 'SyncRep'"


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedPostgresql]:
    with EmbeddedPostgresql(**REPLICATES) as made:
        yield made


@pytest.fixture
def background() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(1) as made:
        yield made


@pytest.fixture
def bench(server: EmbeddedPostgresql, background: ThreadPoolExecutor) -> Iterator[Bench]:  # noqa: ARG001 - ends after what it waits for
    with server.database() as url:
        try:
            with closing(Bench(url, route=ROUTE)) as made:
                made.clock = made.ledger.clock = DatabaseClock()
                yield made
        finally:
            have_standby(server, "")


def have_standby(server: EmbeddedPostgresql, name: str) -> None:
    """Let commits wait for a standby of this name, which is never there; for none where it is empty."""
    server.execute(f"ALTER SYSTEM SET synchronous_standby_names = '{name}'")
    server.execute("SELECT pg_reload_conf()")
    with server.connect() as connection:
        until(lambda: connection.execute("SHOW synchronous_standby_names").fetchone() == (name,), what="the setting")


def waiting(server: EmbeddedPostgresql, executor: ThreadPoolExecutor, work: Callable[[], Any]) -> "Future[Any]":
    """Begin `work`; return when its commit waits for the standby."""
    begun = executor.submit(work)
    with server.connect() as connection:
        until(lambda: connection.execute(f"SELECT FROM pg_stat_activity WHERE {WAITS}").fetchall(), what="a waiting commit")
    assert not begun.done()
    return begun


def end_waits(server: EmbeddedPostgresql, how: str) -> None:
    """Cancel the commits that wait, or terminate their sessions."""
    server.execute(f"SELECT pg_{how}_backend(pid) FROM pg_stat_activity WHERE {WAITS}")  # noqa: S608 - our own words


@pytest.mark.parametrize("how", ["cancel", "terminate"])
def test_a_batch_whose_commit_was_not_waited_for_is_not_acknowledged(
    bench: Bench, server: EmbeddedPostgresql, background: ThreadPoolExecutor, how: str
):
    """PostgreSQL calls a commit whose wait was cancelled a success, with a warning: a fail-over would lose it."""
    intake = Intake(bench.ledger, {"employees": ROUTE}, WakeupRecorder())
    have_standby(server, "nobody")
    taking = waiting(server, background, lambda: intake.take("queue", Letters(), RECORDS))
    end_waits(server, how)
    with pytest.raises(LedgerUnavailable):
        taking.result(TEST_TIMEOUT)

    have_standby(server, "")
    again = intake.take("queue", Letters(), RECORDS)
    assert (again.accepted, again.known) == (0, 3)
    assert bench.sums() == {"accepted": 3, "pending": 3}


def test_a_claim_is_not_handed_out_before_the_standby_has_it(
    bench: Bench, server: EmbeddedPostgresql, background: ThreadPoolExecutor
):
    bench.put_due(A)
    have_standby(server, "nobody")
    claiming = waiting(server, background, bench.claim)
    have_standby(server, "")
    assert claiming.result(TEST_TIMEOUT) is not None
    assert bench.state(A) == State.EXECUTING


def test_a_claim_whose_wait_was_cancelled_is_nobodys_until_its_lease_ends(
    bench: Bench, server: EmbeddedPostgresql, background: ThreadPoolExecutor
):
    bench.put_due(A)
    have_standby(server, "nobody")
    claiming = waiting(server, background, bench.claim)
    end_waits(server, "cancel")
    with pytest.raises(LedgerUnavailable, match="on one server only"):
        claiming.result(TEST_TIMEOUT)

    have_standby(server, "")
    assert bench.claim() is None
    bench.execute("UPDATE jobs SET lease_until = 0")
    assert bench.rescue() == [bench.job(A)["id"]]


def test_a_warning_in_the_middle_of_a_transaction_is_no_doubt_about_its_end(bench: Bench):
    bench.execute("DO $$ BEGIN RAISE WARNING 'look out'; END $$")
    bench.put_due(A)
    assert bench.claim() is not None
