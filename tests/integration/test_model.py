"""Guarantees 1 to 3 hold under any order of intake, claims, crashes, expiry, late settles, replays, discards and prunes."""

from collections.abc import Iterator

import pytest
from ledger_model import ACTS, in_memory, run, wander

from tasks.dlq.ledger import Ledger


@pytest.fixture
def ledger() -> Iterator[Ledger]:
    yield from in_memory()


def test_nothing_is_lost_called_twice_at_once_or_covered_by_an_earlier_call(ledger: Ledger):
    run(ledger, examples=60)


def test_the_walks_that_find_each_missing_rule_find_nothing_when_none_is_missing(ledger: Ledger):
    wander(ledger, *ACTS, walks=60)
    wander(ledger, "read", "work", "work", "lease_ends", "worker_dies", walks=25)
