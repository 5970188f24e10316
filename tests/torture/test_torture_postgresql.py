"""The proxy in front of PostgreSQL cuts where it should."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
import pytest
from harness.log import Log
from harness.postgresql import PostgresqlWire
from harness.servers import Servers
from harness.timetable import Dice
from postgresql_server import shared


@contextmanager
def through(wire: PostgresqlWire, folder: Path, url: str) -> Iterator[str]:
    """Yield the URL by the proxy."""
    with Log(folder / "api.jsonl") as api, Log(folder / "sqs.jsonl") as sqs:
        servers = Servers(1, Counter(), api, sqs)
        servers.wires["ledger"] = wire
        servers.start()
        wire.upstream = int(url.rpartition(":")[2].partition("/")[0])
        yield url.replace(f":{wire.upstream}/", f":{wire.port}/") + "?sslmode=disable&gssencmode=disable"
        servers.close()


@pytest.mark.parametrize(
    ("fault", "rows"), [("", {1}), ("pg_delayed", {1}), ("pg_cut_before", set()), ("pg_cut_before_answer", {1})]
)
def test_a_fault_at_a_commit(fault: str, rows: set[int], tmp_path: Path):
    wire = PostgresqlWire(1, Counter())
    wire.dice, wire.at_commits = Dice(1, "quiet", {}), Dice(1, "commits", {fault: 100.0})
    with shared().database(empty=True) as url, psycopg.connect(url, autocommit=True) as direct:
        direct.execute("CREATE TABLE notes (number integer)")
        with through(wire, tmp_path, url) as by_proxy, suppress(psycopg.OperationalError), psycopg.connect(by_proxy) as client:
            client.execute("INSERT INTO notes VALUES (1)")
            client.commit()
            assert "cut" not in fault, "the client should have noticed"
        found = {number for (number,) in direct.execute("SELECT number FROM notes")}
    assert found == rows
    assert wire.counts[fault] >= 1
