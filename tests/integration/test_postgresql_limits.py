"""What Redrive sets for its sessions on PostgreSQL, how long it waits at most, and which grants it needs."""

import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import postgresql_server
import pytest
from ledger_bench import EMPLOYEES, A, B, Bench, a_letter
from postgresql_server import EmbeddedPostgresql
from sqlalchemy import text
from sqlalchemy.engine import make_url

from tasks.dlq.calls.outcome import Outcome
from tasks.dlq.errors import LedgerUnavailable
from tasks.dlq.ledger import DatabaseClock, Ledger, Transaction, migrations, operations, postgresql, pruning
from tasks.dlq.ledger.routes import lock_route


@pytest.fixture
def server() -> EmbeddedPostgresql:
    return postgresql_server.shared()


@pytest.fixture
def bench(server: EmbeddedPostgresql) -> Iterator[Bench]:
    with server.database() as url, closing(Bench(url)) as made:
        made.clock = made.ledger.clock = DatabaseClock()
        yield made


def shown(bench: Bench, names: list[str]) -> dict[str, str]:
    return bench.do(lambda tx: {name: tx.connection.scalar(text(f"SHOW {name}")) for name in names})


@pytest.mark.parametrize("weak", ["off", "local"])
def test_each_connection_has_its_limits_and_commits_to_disk(bench: Bench, server: EmbeddedPostgresql, weak: str):
    server.execute(f"ALTER DATABASE {make_url(bench.url).database} SET synchronous_commit = {weak}")
    bench.ledger.engine.dispose()
    names = [*postgresql.LIMITS, "synchronous_commit", "application_name", "transaction_isolation"]
    assert list(shown(bench, names).values()) == ["1min", "30s", "15s", "on", "redrive", "read committed"]
    with bench.ledger.begin(read_only=True) as tx:  # an audit takes its time, at one moment
        assert tx.connection.scalar(text("SHOW statement_timeout")) == "0"
        assert tx.connection.scalar(text("SHOW transaction_isolation")) == "repeatable read"


def test_what_the_url_says_has_precedence(bench: Bench):
    with closing(Ledger(bench.url + "?application_name=shop&keepalives_idle=3")) as ledger:
        assert ledger.transact(lambda tx: tx.connection.scalar(text("SHOW application_name"))) == "shop"
        with ledger.engine.connect() as connection:
            found = connection.connection.dbapi_connection.info.get_parameters()
    assert (found["keepalives_idle"], found["tcp_user_timeout"]) == ("3", "15000")


def test_whoever_is_stopped_inside_a_transaction_loses_its_locks(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    """A worker that is paused while it holds the route must not hold up the others."""
    bench.put_due(A)
    monkeypatch.setitem(postgresql.LIMITS, "idle_in_transaction_session_timeout", "200")
    with closing(bench.connect()) as other:
        other.clock = DatabaseClock()

        def stopped(tx: Transaction) -> None:
            lock_route(tx, bench.route)
            assert bench.claim() is not None  # it waited for the end of the other's transaction
            tx.now()

        with pytest.raises(LedgerUnavailable, match="idle-in-transaction"):
            other.transact(stopped)


def test_a_lock_that_does_not_come_is_given_up_and_told(bench: Bench, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(postgresql.LIMITS, "lock_timeout", "50")
    with closing(bench.connect()) as other, bench.ledger.begin() as tx:
        lock_route(tx, bench.route)
        with pytest.raises(LedgerUnavailable, match="lock timeout"):
            other.transact(lambda tx: lock_route(tx, bench.route))


@pytest.fixture
def as_role(bench: Bench, server: EmbeddedPostgresql) -> Iterator[Ledger]:
    """The ledger as a role sees it that owns nothing."""
    server.execute("CREATE ROLE redrive LOGIN PASSWORD 'secret'")
    url = make_url(bench.url).set(username="redrive", password="secret").render_as_string(hide_password=False)
    with closing(Ledger(url)) as ledger:
        yield ledger
    with closing(server.connect(str(make_url(bench.url).database))) as connection:
        connection.execute("DROP OWNED BY redrive")
        connection.execute("DROP ROLE redrive")


def test_a_role_without_grants_is_told_plainly(as_role: Ledger):
    with pytest.raises(LedgerUnavailable, match="permission denied"):
        as_role.transact(lambda tx: lock_route(tx, EMPLOYEES))


def test_the_grants_of_the_documentation_are_enough(bench: Bench, as_role: Ledger):
    page = (Path(__file__).parents[2] / "docs/howto/postgresql.md").read_text()
    for statement in re.findall(r"^(?:ALTER DEFAULT|GRANT) [^;]*;", page, re.MULTILINE):
        bench.execute(statement.replace("redrive_owner", "postgres"))
    with closing(bench.ledger):
        bench.ledger = as_role
        migrations.check(as_role)
        bench.put(a_letter(A), a_letter(B), a_letter(), delay=0.0)
        bench.call()
        bench.call(Outcome.HOPELESS)
        bench.rescue()
        bench.promote()
        before = bench.do(lambda tx: tx.now()) + 1
        assert bench.do(lambda tx: pruning.prune_letters(tx, before=before)) == 1
        assert bench.do(lambda tx: pruning.prune_jobs(tx, before=before)) == 1
        bench.do(lambda tx: operations.log(tx, actor="a", action="b", subject="c"))
        assert bench.sums() == {"accepted": 3, "recovered": 1, "parked": 1, "rejected": 1}
