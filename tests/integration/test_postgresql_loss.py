"""Lost connections, servers that restart or become standbys, commits whose answer never came: nothing is lost or doubled."""

import socket
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import replace
from typing import Any

import pytest
from doubles.tcp_proxy import TcpProxy
from ledger_bench import EMPLOYEES, A, B, Bench, WakeupRecorder, a_letter
from postgresql_processes import Letters
from postgresql_server import EmbeddedPostgresql
from sqlalchemy import text
from sqlalchemy.engine import make_url

from tasks.dlq.calls.api import Answer, SyncRequest, SyncResult
from tasks.dlq.calls.outcome import Outcome
from tasks.dlq.errors import LedgerUnavailable
from tasks.dlq.job import State
from tasks.dlq.ledger import DatabaseClock, Ledger, Transaction, dead_letters
from tasks.dlq.ports import Record
from tasks.dlq.services.intake import Intake
from tasks.dlq.services.recovery import Recovery

ROUTE = replace(EMPLOYEES, delay=0.0, drain=0.0)


@pytest.fixture(scope="module")
def server() -> Iterator[EmbeddedPostgresql]:
    """A server to be crashed: not the one of the other tests."""
    with EmbeddedPostgresql() as made:
        yield made


@pytest.fixture
def bench(server: EmbeddedPostgresql) -> Iterator[Bench]:
    with server.database() as url, closing(Bench(url, route=ROUTE)) as made:
        made.clock = made.ledger.clock = DatabaseClock()
        yield made


def terminate_all(server: EmbeddedPostgresql) -> None:
    server.execute("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname LIKE 'test_%'")


class Api:
    """Does something in the middle of a call, once; then answers 200."""

    def __init__(self, act: Callable[[], Any]) -> None:
        self.act = act
        self.calls: list[str] = []

    def call(self, request: SyncRequest) -> SyncResult:
        self.calls.append(request.parameters["employeeId"])
        act, self.act = self.act, lambda: None
        act()
        return SyncResult(answer=Answer.ANSWERED, status=200)


def recovery(bench: Bench, api: Api, **rest: Any) -> Recovery:
    return Recovery(bench.ledger, {"employees": ROUTE}, api, WakeupRecorder(), slice_seconds=5.0, worker="w", **rest)


# --- connections and servers that go away ----------------------------------------------------------------------------


def test_idle_connections_that_were_ended_are_replaced_before_use(bench: Bench, server: EmbeddedPostgresql):
    bench.put_due(A)
    terminate_all(server)
    assert bench.claim() is not None  # nobody noticed


def test_a_server_that_crashed_is_found_again_with_all_that_was_committed(bench: Bench, server: EmbeddedPostgresql):
    bench.put_due(A)
    held = bench.claimed()
    server.crash()
    with pytest.raises(LedgerUnavailable, match="does not answer"):
        bench.settle(held)
    server.start()
    bench.settle(held)
    assert bench.sums() == {"accepted": 1, "recovered": 1}


def test_a_transaction_whose_connection_is_ended_is_rolled_back_and_told(bench: Bench, server: EmbeddedPostgresql):
    def work(tx: Transaction) -> None:
        dead_letters.record_dead_letters(tx, [a_letter(A)], delays={"employees": 0.0})
        terminate_all(server)
        tx.now()

    with pytest.raises(LedgerUnavailable, match="does not answer"):
        bench.do(work)
    assert bench.sums() == {}
    bench.put(a_letter(A))
    assert bench.sums() == {"accepted": 1, "pending": 1}


@pytest.mark.parametrize("how", ["terminated", "restarted"])
def test_a_call_that_was_made_is_written_down_when_the_server_is_back(bench: Bench, server: EmbeddedPostgresql, how: str):
    """In the middle of the call all connections end; the settle tries again while the lease lasts."""
    job_id = bench.put_due(A)
    bench.put_due(B)
    slept: list[float] = []

    def comes_back(seconds: float) -> None:
        slept.append(seconds)
        server.start()

    api = Api((lambda: terminate_all(server)) if how == "terminated" else server.crash)
    done = recovery(bench, api, sleep=comes_back).run_slice(job_id)

    assert (done.calls, bench.count_completed()) == (2, 2)
    assert sorted(api.calls) == ["1", "2"]
    assert len(slept) == (how == "restarted")
    assert bench.sums() == {"accepted": 2, "recovered": 2}


def test_a_server_that_became_a_standby_is_left_for_the_primary(bench: Bench, server: EmbeddedPostgresql):
    bench.put_due(A)
    name = make_url(bench.url).database
    with bench.ledger.engine.connect() as connection:  # stays in the pool
        connection.execute(text("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY"))
        connection.commit()
    with pytest.raises(LedgerUnavailable, match="read-only"):
        bench.claim()
    assert bench.claim() is not None  # by a connection of its own

    server.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")  # what a standby tells who connects
    with pytest.raises(LedgerUnavailable, match="read-only"), closing(Ledger(bench.url)) as ledger:
        ledger.transact(lambda tx: dead_letters.record_dead_letters(tx, [a_letter(B)], delays={"employees": 0.0}))


# --- commits whose answer never came ---------------------------------------------------------------------------------


#: CommandComplete: the server has committed.
ANSWER = b"C\0\0\0\x0bCOMMIT\0"


class Cutter(TcpProxy):
    """A proxy before PostgreSQL that cuts a connection once the bytes `at` are to pass, instead of passing them on."""

    at: bytes | None = None

    def _pass(self, one: socket.socket, other: socket.socket) -> None:
        with suppress(OSError):
            while data := one.recv(65536):
                if self.at is not None and self.at in data:
                    self.at = None
                    break
                other.sendall(data)
        for connection in (one, other):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._open.discard(one)
        one.close()


@pytest.fixture
def cutter(bench: Bench, server: EmbeddedPostgresql) -> Iterator[Cutter]:
    """Let the bench go through the proxy."""
    with closing(Cutter(server.port)) as made:
        bench.ledger.close()
        bench.url = make_url(bench.url).set(port=made.port).render_as_string(hide_password=False)
        bench.ledger = Ledger(bench.url, clock=bench.clock)
        assert bench.sums() == {}  # it has connected, which has a commit of its own
        yield made


@pytest.fixture
def lose_the_answer(cutter: Cutter) -> Callable[[], None]:
    """Let the answer to the next commit be lost."""
    return lambda: setattr(cutter, "at", ANSWER)


def three_records() -> list[Record]:
    return [Record(identity=f"m-{n}", body=f'["{{\\"employeeId\\":\\"{n}\\"}}"]'.encode()) for n in range(3)]


@pytest.mark.parametrize("at", [b"INSERT INTO dead_letters", b"COMMIT"])
def test_a_batch_that_was_cut_off_before_its_commit_comes_again_as_new(bench: Bench, cutter: Cutter, at: bytes):
    intake = Intake(bench.ledger, {"employees": ROUTE}, WakeupRecorder())
    cutter.at = at
    with pytest.raises(LedgerUnavailable):
        intake.take("queue", Letters(), three_records())
    assert bench.sums() == {}
    assert intake.take("queue", Letters(), three_records()).accepted == 3


@pytest.mark.parametrize("at", [b"UPDATE jobs", b"COMMIT"])
def test_a_claim_that_was_cut_off_before_its_commit_leaves_the_job_due(bench: Bench, cutter: Cutter, at: bytes):
    bench.put_due(A)
    cutter.at = at
    with pytest.raises(LedgerUnavailable):
        bench.claim()
    assert bench.state(A) == State.SCHEDULED
    assert bench.claimed().number == 1  # no attempt was spent, no slot is taken
    assert len(bench.rows("attempts")) == 1


@pytest.mark.parametrize("at", [b"UPDATE jobs", b"COMMIT"])
def test_a_settle_that_was_cut_off_before_its_commit_is_said_again_and_claims_the_next(bench: Bench, cutter: Cutter, at: bytes):
    job_id = bench.put_due(A)
    bench.put_due(B)
    api = Api(lambda: setattr(cutter, "at", at))
    done = recovery(bench, api, sleep=lambda _: None).run_slice(job_id)
    assert (done.calls, bench.count_completed(), api.calls) == (2, 2, ["1", "2"])
    assert [row["outcome"] for row in bench.rows("attempts")] == [Outcome.SUCCESS, Outcome.SUCCESS]


def test_a_batch_whose_commit_was_not_answered_is_known_when_it_comes_again(bench: Bench, lose_the_answer: Callable[[], None]):
    intake = Intake(bench.ledger, {"employees": ROUTE}, WakeupRecorder())
    records = three_records()
    lose_the_answer()
    with pytest.raises(LedgerUnavailable):  # so the source is not acknowledged
        intake.take("queue", Letters(), records)

    again = intake.take("queue", Letters(), records)

    assert (again.accepted, again.known) == (0, 3)
    assert bench.sums() == {"accepted": 3, "pending": 3}
    assert len(bench.promote()) == 1  # a sweep rings for what nobody rang for


@pytest.mark.parametrize("status", [200, 503])
def test_a_settle_whose_commit_was_not_answered_may_be_said_again(bench: Bench, lose_the_answer: Callable[[], None], status: int):
    bench.put_due(A)
    held = bench.claimed()
    outcome = Outcome.SUCCESS if status == 200 else Outcome.API_FAULT
    lose_the_answer()
    with pytest.raises(LedgerUnavailable):
        bench.settle(held, outcome, status=status)
    first = dict(bench.job(A))

    assert bench.settle(held, outcome, status=status).state is None

    assert dict(bench.job(A)) == first
    assert first["state"] == (State.COMPLETED if status == 200 else State.RETRYABLE)
    (attempt,) = bench.rows("attempts")
    assert attempt["outcome"] == outcome
    assert bench.rows("routes")[0]["faults"] == (status != 200)  # the breaker counted it once


def test_a_claim_whose_commit_was_not_answered_is_rescued_and_called_once(bench: Bench, lose_the_answer: Callable[[], None]):
    """Settle and next claim in one commit: what was claimed by nobody's knowledge waits for the end of its lease."""
    job_id = bench.put_due(A)
    bench.put_due(B)
    api = Api(lose_the_answer)

    done = recovery(bench, api, sleep=lambda _: None).run_slice(job_id)

    assert (done.calls, api.calls) == (1, ["1"])
    assert (bench.state(A), bench.state(B)) == (State.COMPLETED, State.EXECUTING)
    assert bench.claim() is None
    bench.execute("UPDATE jobs SET lease_until = 0 WHERE state = 'executing'")
    assert bench.rescue() == [bench.job(B)["id"]]
    bench.execute("UPDATE jobs SET due_at = 0, rest_until = NULL WHERE state = 'retryable'")
    bench.call()
    assert bench.sums() == {"accepted": 2, "recovered": 2}


def test_of_several_hosts_the_one_that_answers_is_taken(bench: Bench, server: EmbeddedPostgresql):
    there = make_url(bench.url)
    hosts = f"host=127.0.0.1:1&host=127.0.0.1:{server.port}"
    with closing(Ledger(f"postgresql://{there.username}:{there.password}@/{there.database}?{hosts}")) as ledger:
        ledger.transact(lambda tx: dead_letters.record_dead_letters(tx, [a_letter(A)], delays={"employees": 0.0}))
    assert bench.sums() == {"accepted": 1, "pending": 1}
