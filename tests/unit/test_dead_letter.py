"""A job's states: each is either waiting, executing or closed, and stands in the ledger by its own word."""

import pytest

from tasks.dlq.dead_letter import DeadLetter, Rejection
from tasks.dlq.job import CLOSED, WAITING, State


def test_every_state_is_waiting_executing_or_closed():
    assert sorted([*WAITING, State.EXECUTING, *CLOSED]) == sorted(State)


def test_the_words_in_the_ledger_never_change():
    assert [state.value for state in State] == ["scheduled", "executing", "retryable", "completed", "parked", "discarded"]


def test_a_letter_has_either_needs_or_a_reason_why_it_has_none():
    rejection = Rejection(reason="not-json", detail="the body is not JSON")

    with pytest.raises(ValueError, match="either keys or a rejection"):
        DeadLetter(source="queue", identity="1", body=b"")
    with pytest.raises(ValueError, match="either keys or a rejection"):
        DeadLetter(source="queue", identity="1", body=b"", keys=["{}"], rejection=rejection)
