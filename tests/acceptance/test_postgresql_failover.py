"""Two PostgreSQL servers: the primary is killed, its synchronous standby takes over, and Redrive goes on by itself."""

from __future__ import annotations

import json
import random
import signal
import threading
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import count
from typing import TYPE_CHECKING

import pytest
from doubles.company_api import ApiCall
from postgresql_server import EmbeddedPostgresql
from postgresql_standby import REPLICATES, Standby, of_both
from stack import Stack, stack
from waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from doubles.company_api import CompanyApi

    from tasks.devstack.sqs import EmbeddedSqs

DATABASE = "postgres"


@pytest.fixture
def calls(company_api: CompanyApi) -> list[ApiCall]:
    """Return the calls that were answered. Now and then a call ends in a conflict, never twice in a row for a path."""
    dice, last, seen = random.Random(1), dict[str, int](), list[ApiCall]()

    def respond(call: ApiCall) -> tuple[int, dict[str, str]]:
        last[call.path] = status = 409 if last.get(call.path) == 200 and dice.random() < 0.3 else 200
        seen.append(call)
        return status, {}

    company_api.respond, company_api.takes = respond, 0.02
    return seen


class Flow:
    """Failures about ten employees, sent one after the other until it is stopped; counts them."""

    def __init__(self, system: Stack) -> None:
        self.sent = 0
        self._system = system
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        dice = random.Random(2)
        for number in count(1):
            self._system.send(json.dumps({"employeeId": dice.randint(1, 10)}))
            if number % 10 == 0:
                self._system.submit("employees", employeeId=dice.randint(1, 10))
            self.sent += 1 + (number % 10 == 0)
            if self._stop.wait(0.05):
                return

    def stop(self) -> int:
        self._stop.set()
        self._thread.join()
        return self.sent


@dataclass
class Cluster:
    """Redrive on two servers, in the middle of its work."""

    system: Stack
    primary: EmbeddedPostgresql
    standby: Standby
    flow: Flow

    def assert_healed(self, api: CompanyApi) -> None:
        """Assert that all that was sent is recovered, by calls that began after it came, one at a time."""
        sent = self.flow.stop()
        audit = self.system.wait_for_audit(accepted=sent, recovered=sent)
        assert audit["balanced"]
        assert (audit["pending"], audit["rejected"], audit["lost"]) == (0, 0, 0)
        assert max(api.most_per_path.values()) == 1
        assert api.most_in_flight <= 2
        with self.standby.connect(DATABASE) as connection:
            rows = connection.execute(
                "SELECT j.key, max(d.received_at) FROM needs n JOIN jobs j ON j.id = n.job_id"
                " JOIN dead_letters d ON d.id = n.dead_letter_id WHERE n.seq <= j.covered_seq GROUP BY j.key"
            ).fetchall()
            open_attempts = connection.execute("SELECT count(*) FROM attempts WHERE ended_at IS NULL").fetchone()
        assert len(rows) == 10
        for key, recorded in rows:
            path = f"/employees/{json.loads(key)['employeeId']}"
            assert max(call.began_at for call in api.answered(200) if call.path == path) * 1000 >= recorded
        assert open_attempts == (0,)
        for name in self.system.processes:
            assert self.primary.password not in self.system.log(name)


@contextmanager
def at_work(folder: Path, sqs: EmbeddedSqs, api: CompanyApi) -> Iterator[Cluster]:
    with ExitStack() as opened:
        primary = opened.enter_context(EmbeddedPostgresql(**REPLICATES))
        standby = opened.enter_context(Standby(primary))
        system = opened.enter_context(stack(folder, sqs, api, max_in_flight=2))
        system.env["REDRIVE_LEDGER__URL"] = of_both(primary.url(DATABASE), standby)
        system.env["REDRIVE_BROKER__VISIBILITY_TIMEOUT"] = "30s"  # of what is submitted while there is no ledger
        assert system.redrive("db", "upgrade").returncode == 0
        for worker in ("one", "two"):
            system.start_worker(worker)
        system.start_beat()
        system.start("intake", "tasks.cli", "intake")
        flow = Flow(system)
        opened.callback(flow.stop)
        yield Cluster(system, primary, standby, flow)


@pytest.fixture
def cluster(tmp_path: Path, sqs: EmbeddedSqs, company_api: CompanyApi, calls: list[ApiCall]) -> Iterator[Cluster]:
    with at_work(tmp_path, sqs, company_api) as made:
        until(lambda: len(calls) >= 20, what="the first calls")
        yield made


def test_a_primary_that_is_killed_in_the_middle_of_calls_loses_and_doubles_nothing(
    cluster: Cluster, company_api: CompanyApi, calls: list[ApiCall]
):
    company_api.gate.clear()
    until(lambda: company_api.at_gate == 2, what="two calls at the gate")
    cluster.primary.crash(signal.SIGKILL)
    company_api.gate.set()  # the calls end while there is no ledger
    for worker in ("one", "two"):
        until(lambda name=worker: "settlement_delayed" in cluster.system.log(name), what="the worker's patience")
    cluster.standby.promote()

    goes_on(calls)
    cluster.assert_healed(company_api)
    assert not [name for name in cluster.system.processes if "Traceback" in cluster.system.log(name)]


def test_an_old_primary_that_comes_back_writable_is_told_no_end_of_a_commit(
    cluster: Cluster, company_api: CompanyApi, calls: list[ApiCall]
):
    """Split brain: the one that it waits for has left. Who took it calls nothing and acknowledges nothing until it is gone."""
    cluster.primary.crash(signal.SIGKILL)
    cluster.standby.promote()
    goes_on(calls)
    cluster.primary.start()
    cluster.system.start_worker("three")  # connects to the first host that is writable

    until(lambda: waiting_commits(cluster.primary) >= 2, what="commits on the old primary")
    cluster.primary.crash()
    goes_on(calls)
    cluster.assert_healed(company_api)


def test_a_standby_that_has_not_all_is_found_out(cluster: Cluster, calls: list[ApiCall]):
    """The tests above can fail: what only the primary had is gone with it."""
    cluster.standby.fall_behind()
    goes_on(calls)
    sent = cluster.flow.stop()
    queues = ("employees-dlq", "redrive-submit")
    until(lambda: not any(map(cluster.system.left, queues)), what="the last acknowledgement")
    cluster.primary.crash(signal.SIGKILL)
    cluster.standby.promote()

    assert cluster.system.audit()["accepted"] < sent


def goes_on(calls: list[ApiCall]) -> None:
    """Wait for more calls than may have been under way."""
    enough = len(calls) + 10
    until(lambda: len(calls) >= enough, what="more calls")


def waiting_commits(server: EmbeddedPostgresql) -> int:
    """Count Redrive's commits that wait for a synchronous standby."""
    waiting = "SELECT FROM pg_stat_activity WHERE application_name = 'redrive' AND wait_event = 'SyncRep'"
    with server.connect() as connection:
        return len(connection.execute(waiting).fetchall())
