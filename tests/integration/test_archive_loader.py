"""An exported ledger in another one: all or nothing, and safe for what was at work when it was exported."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from ledger_bench import EMPLOYEES, POSTGRESQL, SQLITE, URLS, A, B, Bench, a_letter
from ledger_copies import HOUR, Fresh, exported, fresh_ledgers, history, import_into, rows_of
from sqlalchemy import text

from tasks.dlq.archive import file_format
from tasks.dlq.archive.loader import refuse_unless_empty, seconds_without_calls
from tasks.dlq.archive.rules import LAST_MOMENT
from tasks.dlq.calls.outcome import Outcome
from tasks.dlq.errors import LedgerUnavailable, Refused
from tasks.dlq.job import State
from tasks.dlq.ledger import operations, routes
from tasks.dlq.ledger.dead_letters import record_dead_letters

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tasks.dlq.ledger import Transaction


@pytest.fixture
def fresh(tmp_path: Path) -> Iterator[Fresh]:
    with fresh_ledgers(tmp_path) as made:
        yield made


# --- what was at work --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", URLS)
@pytest.mark.parametrize("ahead", [-HOUR, 0.0, HOUR], ids=["an-hour-behind", "in-step", "an-hour-ahead"])
def test_an_imported_lease_lasts_as_long_as_it_had_left(kind: str, ahead: float, fresh: Fresh):
    bench, copy = fresh(SQLITE), fresh(kind)
    bench.put_due(A)
    bench.claimed()
    bench.clock.advance(10)
    left = EMPLOYEES.lease - 10
    copy.clock.now = bench.clock.now + round(ahead * 1000)
    watch_for(copy, 2 * EMPLOYEES.lease)

    import_into(copy.ledger, exported(bench.ledger))

    copy.clock.advance(left - 1)
    assert copy.rescue() == []
    assert copy.claim() is None
    copy.clock.advance(2)
    assert copy.rescue() == [1]
    assert copy.claim() is None, "the API may be working still"
    copy.clock.advance(EMPLOYEES.drain)
    assert copy.claimed().number == 2


def watch_for(bench: Bench, seconds: float) -> None:
    """Have the process watch its ledger's clock for so long: it has no doubt about leases."""
    bench.put()
    for _ in range(10):
        bench.clock.advance(seconds / 10)
        bench.promote()
    bench.clock.now -= round(seconds * 1000)


@pytest.mark.parametrize("kind", URLS)
def test_the_worker_of_an_open_call_can_still_settle_it(kind: str, fresh: Fresh):
    bench, copy = fresh(SQLITE), fresh(kind)
    bench.put_due(A)
    held = bench.claimed()
    import_into(copy.ledger, exported(bench.ledger))

    copy.settle(held)

    assert copy.state(A) is State.COMPLETED
    assert copy.sums() == {"accepted": 1, "recovered": 1}


@pytest.mark.parametrize("ahead", [-HOUR, 0.0, HOUR], ids=["an-hour-behind", "in-step", "an-hour-ahead"])
def test_an_imported_rest_lasts_as_long_as_it_had_left(ahead: float, fresh: Fresh):
    route = replace(EMPLOYEES, drain=300.0)
    bench, copy = fresh(SQLITE), fresh(SQLITE)
    bench.route = copy.route = route
    bench.put_due(A)
    bench.call(Outcome.NETWORK, unknown=True)
    bench.clock.advance(100)
    copy.clock.now = bench.clock.now + round(ahead * 1000)

    import_into(copy.ledger, exported(bench.ledger))

    copy.clock.advance(199)
    assert copy.claim() is None
    copy.clock.advance(2)
    assert copy.claimed()


def test_no_shifted_time_is_after_the_year_9999(fresh: Fresh):
    bench, copy = fresh(SQLITE), fresh(SQLITE)
    bench.put_due(A)
    bench.claimed()
    bench.execute(f"UPDATE jobs SET lease_until = {LAST_MOMENT}")  # noqa: S608
    copy.clock.now = bench.clock.now + round(HOUR * 1000)

    import_into(copy.ledger, exported(bench.ledger))

    assert copy.job(A)["lease_until"] == LAST_MOMENT


def test_a_wait_is_no_longer_if_the_clock_is_behind(fresh: Fresh):
    """A job that is due, one that is due in a minute, and a route that waits for half of one: by a clock that is ahead."""
    bench, copy = fresh(SQLITE), fresh(SQLITE)
    bench.put_due(A)
    bench.call(Outcome.NETWORK, unknown=True)
    bench.put(a_letter(B), delay=400.0)
    bench.clock.advance(340)
    bench.hold_until(bench.clock.now + 30_000)
    copy.clock.now = bench.clock.now - round(HOUR * 1000)

    import_into(copy.ledger, exported(bench.ledger))

    assert copy.claim() is None
    copy.clock.advance(31)
    held = copy.claimed()
    assert held.key == A
    copy.settle(held)
    assert copy.claim() is None
    copy.clock.advance(30)
    assert copy.claimed().key == B


def test_wakeups_of_the_old_ledger_delay_no_sweep(fresh: Fresh):
    bench, copy = fresh(SQLITE), fresh(SQLITE)
    job_id = bench.put_due(A)
    for _ in range(6):  # nobody comes: sweeps have become patient
        bench.promote()
        bench.clock.advance(301)
    bench.promote()
    assert bench.promote() == []

    import_into(copy.ledger, exported(bench.ledger))
    copy.clock.now = bench.clock.now

    assert copy.promote() == [(job_id, 0.0)]


@pytest.mark.parametrize("kind", URLS)
def test_no_route_calls_while_an_unknown_call_may_be_open(kind: str, fresh: Fresh):
    """The ledger is exported, a call begins, the ledger is lost and restored while that call is open."""
    bench, copy = fresh(SQLITE), fresh(kind)
    bench.put_due(A)
    file = exported(bench.ledger)
    lost = bench.claimed()
    copy.clock.now = bench.clock.now

    import_into(copy.ledger, file, configured={"employees": EMPLOYEES})

    assert seconds_without_calls(EMPLOYEES) == EMPLOYEES.lease + EMPLOYEES.drain
    copy.clock.advance(seconds_without_calls(EMPLOYEES) - 1)
    assert copy.claim() is None
    copy.clock.advance(1)
    assert copy.claimed().fence > lost.fence


# --- all or nothing ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", URLS)
def test_a_ledger_that_is_not_empty_is_refused(kind: str, fresh: Fresh):
    bench, copy = fresh(SQLITE), fresh(kind)
    history(bench)
    file = exported(bench.ledger)
    acts: list[Callable[[], object]] = [
        lambda: copy.put(a_letter(A)),
        lambda: copy.do(operations.log, actor="ops", action="repair", subject=""),
        lambda: copy.pause(by="ops", reason=""),
        lambda: copy.hold_until(1),
        lambda: copy.execute("UPDATE routes SET fence = 1"),
    ]
    for act in acts:
        copy.do(routes.ensure_routes, ["employees"])
        act()
        before = exported(copy.ledger)
        with pytest.raises(Refused, match="the ledger is not empty"):
            import_into(copy.ledger, file)
        assert rows_of(exported(copy.ledger)) == rows_of(before)
        for table in ("needs", "dead_letters", "jobs", "tallies", "audit_log", "routes"):
            copy.execute(f"DELETE FROM {table}")  # noqa: S608

    copy.do(routes.ensure_routes, ["employees", "teams"])  # as a process does that has just started
    import_into(copy.ledger, file)
    assert "teams" not in [row["name"] for row in copy.rows("routes")]


OTHER = '{"employeeId":"other"}'
ROW_FAULTS = {
    "a need of no letter": ("needs", {"dead_letter_id": 99}),
    "a job twice": ("jobs", {"id": 77}),
    "a lease without a token": ("jobs", {"id": 77, "key": OTHER, "state": "executing", "lease_until": 1}),
    "more covered than attached": ("jobs", {"id": 77, "key": OTHER, "covered_seq": 1 << 40}),
}


@pytest.mark.parametrize("kind", URLS)
@pytest.mark.parametrize("fault", ROW_FAULTS)
def test_a_row_that_the_database_refuses_is_named_by_its_line(kind: str, fault: str, fresh: Fresh):
    bench, copy = fresh(SQLITE), fresh(kind)
    for number in range(20):
        bench.put(a_letter(A, B, identity=str(number)))
    table, change = ROW_FAULTS[fault]
    file, line = with_another_row(exported(bench.ledger), table, change)
    empty = rows_of(exported(copy.ledger))

    with pytest.raises(Refused, match=f"^line {line}: the ledger refused this row of {table}: "):
        import_into(copy.ledger, file)

    assert rows_of(exported(copy.ledger))[1:] == empty[1:]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"identity": "a\0b"}, "NUL"),
        ({"identity": "x" * 201}, "too long"),
        ({"route": "x" * 65}, "too long"),
    ],
)
def test_a_value_that_only_sqlite_can_store_is_named_by_its_line(change: dict[str, Any], told: str, fresh: Fresh):
    bench, copy, again = fresh(SQLITE), fresh(POSTGRESQL), fresh(SQLITE)
    bench.put(a_letter(A))
    table = "dead_letters" if "identity" in change else "jobs"
    file, line = with_another_row(exported(bench.ledger), table, {"id": 77, "key": OTHER} | change)

    import_into(again.ledger, file)
    with pytest.raises(Refused, match=f"^line {line}: .*{told}"):
        import_into(copy.ledger, file)


def with_another_row(file: bytes, table: str, change: dict[str, Any]) -> tuple[bytes, int]:
    """Return a whole file with one more row, a changed copy of the table's first, and the number of its line."""
    lines = file.splitlines(keepends=True)
    place, line = next((place, line) for place, line in enumerate(lines) if f'"table":"{table}"'.encode() in line)
    row = json.loads(line)
    row["row"] |= {name: value for name, value in change.items() if name in row["row"]}
    return sealed([*lines[: place + 1], json.dumps(row).encode() + b"\n", *lines[place + 1 : -1]]), place + 2


def sealed(lines: list[bytes]) -> bytes:
    """Return the lines with a last line that fits them."""
    counts = Counter({table.name: 0 for table in file_format.exported_tables()})
    counts.update(json.loads(line)["table"] for line in lines[1:])
    whole = b"".join(lines)
    return whole + json.dumps({"rows": counts, "sha256": hashlib.sha256(whole).hexdigest()}).encode() + b"\n"


@pytest.mark.parametrize("kind", URLS)
def test_a_file_that_was_cut_imports_nothing(kind: str, fresh: Fresh):
    bench, copy = fresh(SQLITE), fresh(kind)
    history(bench)
    whole = exported(bench.ledger).splitlines(keepends=True)
    with pytest.raises(Refused, match="the file was cut"):
        import_into(copy.ledger, b"".join(whole[:-1]))
    assert not any(copy.rows(table) for table in ("dead_letters", "jobs", "needs", "routes"))
    import_into(copy.ledger, b"".join(whole))


def test_no_other_process_writes_during_an_import(fresh: Fresh):
    """PostgreSQL: what comes between the look whether it is empty and the rows would mix two ledgers."""
    bench, copy = fresh(SQLITE), fresh(POSTGRESQL)
    history(bench)
    other = copy.connect()

    def write(theirs: Transaction) -> None:
        theirs.connection.execute(text("SET LOCAL lock_timeout = '50ms'"))
        record_dead_letters(theirs, [a_letter(A)], delays={"employees": 0.0})

    with copy.ledger.begin() as tx:
        refuse_unless_empty(tx)
        with pytest.raises(LedgerUnavailable, match="lock timeout"):
            other.transact(write)
    other.close()
