"""The audit balances, by source; and it finds what somebody took out of the ledger behind its back."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from ledger_bench import URLS, A, B, Bench, C, D, a_letter, open_bench
from sqlalchemy import event

from tasks.dlq.calls.outcome import Outcome
from tasks.dlq.ledger.audit import Sums, audit
from tasks.dlq.ledger.pruning import prune_letters


@pytest.fixture(params=URLS)
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    yield from open_bench(request.param, tmp_path)


@pytest.fixture
def busy(bench: Bench) -> Bench:
    """Hold a bit of everything, from two sources."""
    bench.put(a_letter(A, B, identity="ab"), a_letter(A), a_letter(), delay=0.0)
    bench.call()
    bench.call(Outcome.HOPELESS)
    bench.put(a_letter(C, source="topic", stream="orders/3"), a_letter(D, source="topic"))
    return bench


def test_an_empty_ledger_balances(bench: Bench):
    found = bench.audit()

    assert found.balanced
    assert found.as_dict()["sources"] == {}


def test_every_letter_is_counted_once_by_source(busy: Bench):
    found = busy.audit()

    assert busy.sums() == {"accepted": 5, "recovered": 1, "pending": 2, "parked": 1, "rejected": 1}
    assert found.sources == {
        "queue": Sums(accepted=3, recovered=1, parked=1, rejected=1),
        "topic": Sums(accepted=2, pending=2),
    }


def test_the_audit_as_it_is_printed(busy: Bench):
    printed = busy.audit().as_dict()

    assert set(printed) >= {"accepted", "recovered", "pending", "parked", "discarded", "rejected", "balanced", "sources"}
    assert printed["sources"]["topic"] == {
        "accepted": 2,
        "recovered": 0,
        "pending": 2,
        "parked": 0,
        "discarded": 0,
        "rejected": 0,
        "lost": 0,
        "balanced": True,
    }


@pytest.mark.parametrize(
    "sabotage",
    [
        "DELETE FROM dead_letters WHERE identity = 'ab'",  # its needs go with it
        "DELETE FROM needs WHERE job_id IN (SELECT id FROM jobs WHERE state = 'scheduled') AND seq = 1",
        "UPDATE tallies SET accepted = accepted + 1 WHERE source = 'queue'",
    ],
)
def test_what_is_taken_away_behind_its_back_is_lost(busy: Bench, sabotage: str):
    busy.execute(sabotage)

    found = busy.audit()

    assert found.lost > 0
    assert not found.balanced


def test_a_letter_that_comes_in_behind_its_back_is_not_balanced_either(busy: Bench):
    busy.execute(
        "INSERT INTO dead_letters (source, identity, origin, body, received_at, reject_reason) "
        "VALUES ('queue', 'x', '{}', :body, 0, 'not-json')",
        body=b"",
    )

    assert busy.audit().lost == -1


def test_one_sources_loss_does_not_hide_behind_anothers_surplus(busy: Bench):
    busy.execute("UPDATE tallies SET accepted = accepted + 1 WHERE source = 'queue'")
    busy.execute("UPDATE tallies SET accepted = accepted - 1 WHERE source = 'topic' AND stream = ''")

    found = busy.audit()

    assert found.lost == 0
    assert not found.balanced
    assert [found.sources[name].lost for name in ("queue", "topic")] == [1, -1]


def test_a_loss_after_a_prune_still_shows(busy: Bench):
    busy.clock.advance(86400)
    assert busy.do(prune_letters, before=busy.clock.now) == 1
    busy.execute("DELETE FROM dead_letters WHERE identity = 'ab'")

    assert busy.audit().lost == 1


def test_the_audit_sees_one_moment_while_others_write(busy: Bench):
    """Its two counts come from one snapshot: what is accepted in between is in both or in neither."""
    other, done = busy.connect(), []

    def between(_conn: object, _cursor: object, _statement: str, *_rest: object) -> None:
        if not done:
            done.append(True)
            bench = Bench.__new__(Bench)
            bench.ledger = other
            bench.put(a_letter(A))

    with busy.ledger.begin(read_only=True) as tx:
        tx.connection.exec_driver_sql("SELECT 1 FROM routes")  # the snapshot is taken with the first read
        event.listen(busy.ledger.engine, "after_cursor_execute", between)
        found = audit(tx)
    event.remove(busy.ledger.engine, "after_cursor_execute", between)
    other.close()

    assert done
    assert (found.accepted, found.lost) == (5, 0)
    assert busy.sums()["accepted"] == 6
