"""Each of the ledger's eleven rules is switched off once, and the model or an interleaving shows what then breaks.

A rule whose loss nobody notices is not tested. The order of the rules is that of the design: coverage by sequence (1), one
guarded settle (2), the route's limit (3), late ends (4), lease and drain (5), misses (6), compare-and-set (7), identity (8),
independent sums (9), hostile rows (10), one clock and one order of locks (11).
"""

from collections.abc import Iterator
from dataclasses import replace
from itertools import count
from typing import Any

import pytest
from ledger_model import in_memory, wander
from ledger_world import Actor, Violated
from sqlalchemy import select, update

from tasks.dlq.calls.outcome import Outcome
from tasks.dlq.job import Settled, State
from tasks.dlq.ledger import Ledger, Transaction, audit, dead_letters, operations, rescue, settlement
from tasks.dlq.ledger.routes import LockedRoute
from tasks.dlq.ledger.schema import jobs, needs
from tasks.dlq.reading import reader as reading
from tasks.dlq.reading.reader import BodyReader, SubmissionReader
from tasks.dlq.services import maintenance, recovery
from tasks.dlq.services.recovery import Recovery

WALKS = 300


@pytest.fixture
def ledger() -> Iterator[Ledger]:
    yield from in_memory()


def breaks(ledger: Ledger, promise: str, *acts: str) -> None:
    """Run the model, with those of its acts that the rule is about, until the promise is broken."""
    with pytest.raises(Violated, match=promise):
        wander(ledger, *acts, walks=WALKS)


def test_rule_1_needs_numbered_before_the_upsert(ledger: Ledger, monkeypatch: pytest.MonkeyPatch):
    """Ids are given out when a record is read and commit in another order: `id <= n` covers one that came later."""
    numbers, ids = count(1), {}

    def numbering(read: Any) -> Any:
        def numbered(self: Any, source: str, record: Any) -> Any:
            letter = read(self, source, record)
            ids[letter.source, letter.identity] = next(numbers)
            return letter

        return numbered

    def attach(tx: Transaction, fresh: Any, delays: Any, now: int) -> list[Any]:
        for letter_id, letter in fresh:
            number = ids[letter.source, letter.identity]
            for key in letter.keys:
                before = tx.connection.scalar(select(jobs.c.last_seq).where(jobs.c.key == key)) or 0
                values = dead_letters.attach_values(letter.route, key, 1, now + round(delays[letter.route] * 1000), now)
                job = tx.connection.execute(dead_letters.attach_statement(tx), values).one()
                tx.connection.execute(update(jobs).where(jobs.c.id == job.id).values(last_seq=max(before, number)))
                tx.connection.execute(needs.insert(), {"dead_letter_id": letter_id, "job_id": job.id, "seq": number})
        return []

    for reader in (BodyReader, SubmissionReader):
        monkeypatch.setattr(reader, "read", numbering(reader.read))
    monkeypatch.setattr(dead_letters, "attach_needs", attach)
    breaks(ledger, "covered means covered: no success", "read", "write", "work")


def test_rule_2_read_that_nothing_is_new_then_complete(ledger: Ledger, monkeypatch: pytest.MonkeyPatch):
    end_call, settle, completed = Recovery.end_call, recovery.settle, settlement._completed_values
    news: dict[str, bool] = {}
    acting: list[str] = []

    def read(self: Recovery, route: Any, result: Any) -> Any:
        with self._ledger.begin(read_only=True) as tx:
            for row in tx.connection.execute(select(jobs).where(jobs.c.token.is_not(None))):
                news[row.token] = row.last_seq > row.claimed_seq
        return end_call(self, route, result)

    def settle_as_read(locked: Any, claim: Any, *rest: Any) -> Settled:
        acting[:] = [claim.token]
        return settle(locked, claim, *rest)

    def complete(locked: Any) -> dict[str, Any]:
        state = State.SCHEDULED if news.get(acting[0]) else State.COMPLETED
        return completed(locked) | {"state": state}

    monkeypatch.setattr(Recovery, "end_call", read)
    monkeypatch.setattr(recovery, "settle", settle_as_read)
    monkeypatch.setattr(settlement, "_completed_values", complete)
    breaks(ledger, "nothing lost: .* is completed without", "read", "work", "work")


def test_rule_3_no_count_of_the_slots_in_use(ledger: Ledger, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(LockedRoute, "count_occupied", lambda _: 0)
    breaks(ledger, "single flight: . calls are open", "read", "work")


def test_rule_4_a_late_end_is_taken_for_one_in_time(ledger: Ledger, monkeypatch: pytest.MonkeyPatch):
    def release(locked: Any, claim: Any, values: dict[str, Any]) -> Any:
        statement = update(jobs).where(jobs.c.id == claim.job_id).values(token=None, lease_until=None, **values)
        state = locked.tx.connection.scalar(statement.returning(jobs.c.state))
        return None if state is None else State(state)

    monkeypatch.setattr(settlement, "_release", release)
    breaks(ledger, "single flight|covered means covered|nothing lost", "read", "work", "work", "lease_ends")


def test_rule_4_a_late_success_is_ignored(ledger: Ledger, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(settlement, "_settle_late", lambda *_: None)
    breaks(ledger, "covered means covered: .* was written down", "read", "work", "work", "lease_ends")


def test_rule_4_a_late_success_covers_what_came_after_it_began(ledger: Ledger, monkeypatch: pytest.MonkeyPatch):
    def late(locked: Any, claim: Any, end: Any) -> None:
        if end.outcome is Outcome.SUCCESS:
            statement = update(jobs).where(jobs.c.id == claim.job_id).values(covered_seq=jobs.c.last_seq)
            locked.tx.connection.execute(statement)

    monkeypatch.setattr(settlement, "_settle_late", late)
    breaks(ledger, "covered means covered: no success", "read", "work", "work", "lease_ends")


def test_rule_5_a_call_is_sent_however_old_its_lease_is(ledger: Ledger, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(recovery, "may_send", lambda _route, **_: True)
    breaks(ledger, "single flight: ", "read", "work", "work", "lease_ends")


def test_rule_5_no_rest_after_an_unknown_outcome(ledger: Ledger, monkeypatch: pytest.MonkeyPatch):
    settle = recovery.settle
    known = lambda locked, claim, end, decision: settle(locked, claim, replace(end, unknown=False), decision)  # noqa: E731
    monkeypatch.setattr(recovery, "settle", known)
    breaks(ledger, "single flight: ", "read", "work")


def test_rule_5_no_rest_after_a_killed_worker(ledger: Ledger, monkeypatch: pytest.MonkeyPatch):
    take_back = rescue._take_back
    monkeypatch.setattr(rescue, "_take_back", lambda locked, row, **_: take_back(locked, row, rest_until=locked.now))
    breaks(ledger, "single flight: ", "read", "work", "work", "lease_ends", "worker_dies")


def test_rule_6_a_try_that_never_reached_the_api_spends_an_attempt(ledger: Ledger, monkeypatch: pytest.MonkeyPatch):
    decide = settlement.decide
    monkeypatch.setattr(settlement, "decide", lambda *args, **named: replace(decide(*args, **named), spend=True))
    breaks(ledger, "bounded: . attempts are spent on", "read", "work")


def test_rule_7_a_discard_that_does_not_compare(ledger: Ledger, monkeypatch: pytest.MonkeyPatch):
    def discard(tx: Transaction, job_id: int, *, state: State, last_seq: int) -> bool:  # noqa: ARG001 - the point
        statement = update(jobs).where(jobs.c.id == job_id, jobs.c.state != State.EXECUTING)
        return tx.connection.execute(statement.values(state=State.DISCARDED)).rowcount == 1

    monkeypatch.setattr(operations, "discard", discard)
    breaks(ledger, "nothing lost: a need came since the look", "read", "person")


def test_rule_8_identity_by_an_id_that_a_producer_chose(ledger: Ledger, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(reading, "_identified", lambda record: record)
    breaks(ledger, "nothing lost: . records are new", "read")


def test_rule_8_identities_are_forgotten_while_the_source_still_delivers_them(ledger: Ledger, monkeypatch: pytest.MonkeyPatch):
    before = maintenance._before
    monkeypatch.setattr(maintenance, "_before", lambda tx, keep: before(tx, keep / 1000))
    breaks(ledger, "nothing lost: . records are new", "read", "read", "work", "work", "work", "prune")


def test_rule_9_accepted_is_counted_from_the_rows_that_it_is_compared_with(ledger: Ledger, monkeypatch: pytest.MonkeyPatch):
    count_all = audit.audit

    def from_the_rows(tx: Transaction) -> audit.Audit:
        found = count_all(tx)
        for sums in (found, *found.sources.values()):
            sums.accepted = sum(getattr(sums, name) for name in audit.STANDINGS)
        return found

    monkeypatch.setattr(audit, "audit", from_the_rows)
    breaks(ledger, "nothing lost: a letter was taken away", "read")


def test_rule_10_one_hostile_row_costs_the_batch(ledger: Ledger, monkeypatch: pytest.MonkeyPatch):
    def give_up(*_: object) -> None:
        raise ValueError("a row cannot be stored")

    monkeypatch.setattr(dead_letters, "_one_by_one", give_up)
    breaks(ledger, "nothing lost: one row cost the whole batch", "read")


def test_rule_11_each_process_reads_its_own_clock(ledger: Ledger, monkeypatch: pytest.MonkeyPatch):
    now = Transaction.now
    monkeypatch.setattr(Transaction, "now", lambda self: now(self) + round(Actor.skew * 1000))
    breaks(ledger, "single flight: ", "read", "work", "work", "work", "wait", "wait")
