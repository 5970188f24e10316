"""Intake into the ledger: each record once, needs coalesced by key, hostile rows one by one."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ledger_bench import PARK, URLS, A, B, Bench, C, D, a_letter, open_bench

from tasks.dlq.calls.outcome import Outcome
from tasks.dlq.dead_letter import DeadLetter, Rejection
from tasks.dlq.job import State
from tasks.dlq.ledger import operations
from tasks.dlq.ledger.dead_letters import Recorded


@pytest.fixture(params=URLS)
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    yield from open_bench(request.param, tmp_path)


# --- each record once ------------------------------------------------------------------------------------------------


def test_a_double_within_a_batch_is_taken_once(bench: Bench):
    letter = a_letter(A)

    assert bench.put(letter, a_letter(B), letter) == Recorded(
        accepted=2, known=1, opened=[("employees", bench.job(A)["id"]), ("employees", bench.job(B)["id"])]
    )
    assert bench.seqs(A) == [1]
    assert bench.sums() == {"accepted": 2, "pending": 2}


def test_a_double_of_an_earlier_batch_is_known_and_attaches_nothing(bench: Bench):
    letter = a_letter(A)
    bench.put(letter)

    assert bench.put(letter) == Recorded(known=1, opened=[])
    assert bench.job(A)["last_seq"] == 1
    assert bench.sums() == {"accepted": 1, "pending": 1}


def test_a_double_opens_no_job_that_is_over(bench: Bench):
    letter = a_letter(A)
    bench.put(letter, delay=0.0)
    bench.call()

    assert bench.put(letter) == Recorded(known=1, opened=[])
    assert bench.state() is State.COMPLETED


def test_the_same_identity_in_two_sources_is_two_records(bench: Bench):
    bench.put(a_letter(A, identity="0-1"), a_letter(A, identity="0-1", source="topic"))

    assert bench.job(A)["last_seq"] == 2
    assert {name: sums.accepted for name, sums in bench.audit().sources.items()} == {"queue": 1, "topic": 1}


def test_an_empty_batch_is_nothing(bench: Bench):
    assert bench.put() == Recorded(opened=[])
    assert bench.sums() == {}


# --- needs and jobs --------------------------------------------------------------------------------------------------


def test_a_letter_about_two_entities_needs_both(bench: Bench):
    bench.put(a_letter(A, B), delay=0.0)
    assert len(bench.rows("needs")) == 2

    bench.call()
    assert bench.sums() == {"accepted": 1, "pending": 1}
    bench.call()
    assert bench.sums() == {"accepted": 1, "recovered": 1}


def test_forty_letters_about_one_entity_are_one_job_and_one_call(bench: Bench):
    opened = bench.put(*[a_letter(A) for _ in range(25)], delay=0.0).opened
    assert bench.put(*[a_letter(A) for _ in range(15)], delay=0.0).opened == opened  # waits all the same
    assert bench.seqs() == list(range(1, 41))

    bench.call()

    assert bench.sums() == {"accepted": 40, "recovered": 40}
    assert bench.claim() is None
    assert bench.job(A)["calls"] == 1


def test_overlapping_letters_share_the_job_of_what_they_have_in_common(bench: Bench):
    recorded = bench.put(a_letter(A, B), a_letter(A, C), a_letter(A, D))

    assert len(recorded.opened) == 4
    assert [bench.job(key)["last_seq"] for key in (A, B, C, D)] == [3, 1, 1, 1]


def test_the_same_key_on_two_routes_is_two_jobs(bench: Bench):
    bench.put(a_letter(A), a_letter(A, route="companies"))

    assert bench.job(A, "employees")["id"] != bench.job(A, "companies")["id"]


def test_a_new_job_is_due_after_the_routes_delay(bench: Bench):
    bench.put(a_letter(A), delay=30.0)

    assert bench.due_in() == 30.0
    assert bench.claim() is None
    bench.clock.advance(30)
    assert bench.claimed().covers_seq == 1


# --- attaching -------------------------------------------------------------------------------------------------------


def test_a_need_for_a_waiting_job_leaves_its_due_time_alone(bench: Bench):
    bench.put(a_letter(A), delay=30.0)
    bench.clock.advance(20)

    assert bench.put(a_letter(A), delay=30.0).opened == []
    assert bench.due_in() == 10.0


def test_a_need_for_a_retryable_job_leaves_due_time_and_budget_alone(bench: Bench):
    bench.put_due(A)
    bench.call(Outcome.CONFLICT)
    due_in = bench.due_in()

    bench.put(a_letter(A))

    assert bench.due_in() == due_in
    assert (bench.state(), bench.job(A)["attempts"]) == (State.RETRYABLE, 1)


def test_needs_for_an_executing_job_make_exactly_one_more_run_after_the_delay(bench: Bench):
    bench.put_due(A)
    held = bench.claimed()
    for _ in range(3):
        assert bench.put(a_letter(A)).opened == []
    assert bench.state() is State.EXECUTING

    settled = bench.settle(held)

    assert (settled.state, bench.due_in()) == (State.SCHEDULED, bench.route.delay)
    assert bench.sums() == {"accepted": 4, "recovered": 1, "pending": 3}
    bench.clock.advance(bench.route.delay)
    bench.call()
    assert bench.sums() == {"accepted": 4, "recovered": 4}
    assert bench.claim() is None


def test_a_need_opens_a_parked_job_with_a_fresh_budget(bench: Bench):
    bench.put_due(A)
    bench.call(Outcome.CONFLICT)
    bench.clock.advance(60)
    bench.call(Outcome.HOPELESS)
    assert (bench.state(), bench.job(A)["attempts"]) == (State.PARKED, 2)

    assert bench.put(a_letter(A)).opened == [("employees", bench.job(A)["id"])]

    assert (bench.state(), bench.due_in()) == (State.SCHEDULED, 30.0)
    assert [bench.job(A)[name] for name in ("attempts", "misses", "crashes", "covered_seq")] == [0, 0, 0, 0]


def test_a_need_opens_a_completed_job_and_what_was_recovered_stays_so(bench: Bench):
    bench.put_due(A)
    bench.call()

    bench.put(a_letter(A))

    assert (bench.state(), bench.due_in()) == (State.SCHEDULED, 30.0)
    assert bench.sums() == {"accepted": 2, "recovered": 1, "pending": 1}


def test_a_need_opens_a_discarded_job_with_a_fresh_budget(bench: Bench):
    job_id = bench.put_due(A)
    bench.call(Outcome.HOPELESS)
    assert bench.do(operations.discard, job_id, state=State.PARKED, last_seq=1)

    bench.put(a_letter(A))

    assert (bench.state(), bench.job(A)["attempts"]) == (State.SCHEDULED, 0)
    bench.clock.advance(30)
    bench.call()
    assert bench.sums() == {"accepted": 2, "recovered": 2}  # the call began after both were recorded


def test_a_parked_need_counts_as_parked_until_then(bench: Bench):
    bench.put_due(A, B)
    bench.call(Outcome.HOPELESS, PARK)
    assert bench.sums() == {"accepted": 1, "pending": 1}

    bench.call()

    assert bench.sums() == {"accepted": 1, "parked": 1}


# --- rejected and hostile rows ---------------------------------------------------------------------------------------


def test_a_rejected_letter_keeps_its_bytes_and_its_reason(bench: Bench):
    bench.put(a_letter(body=b"\x00\xff not json"))

    (row,) = bench.rows("dead_letters")
    assert bytes(row["body"]) == b"\x00\xff not json"
    assert (row["reject_reason"], row["reject_detail"]) == ("not-json", "the body is not JSON")
    assert bench.sums() == {"accepted": 1, "rejected": 1}


HOSTILE: dict[str, dict[str, Any]] = {
    "a lone surrogate in the stream": {"stream": "topic\ud800/0"},
    "a NUL in the stream": {"stream": "topic\x00/0"},
    "a stream without end": {"stream": "t" * 5000},
    "a lone surrogate in the identity": {"identity": "\udfff"},
    "a NUL in the identity": {"identity": "0\x00"},
    "an identity without end": {"identity": "7" * 5000},
    "a lone surrogate in the reason": {"rejection": Rejection(reason="not-json", detail="\ud800"), "keys": ()},
    "a NUL in the reason": {"rejection": Rejection(reason="not-json", detail="\x00"), "keys": ()},
    "an integer of 5,000 digits in the origin": {"origin": {"offset": 10**5000}},
    "a NUL in the origin": {"origin": {"topic": "\x00"}},
    "a lone surrogate in the origin": {"origin": {"\ud800": "\udfff"}},
    "a name in the origin that is no text": {"origin": {(1, 2): 3}},
    "bytes in the origin": {"origin": {"key": b"\xff"}},
    "a key without end": {"keys": [f'{{"employeeId":"{"".join(chr(0x4E00 + n * 7 % 20000) for n in range(5000))}"}}']},
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_row_never_ends_the_batch(bench: Bench, name: str):
    body = b"\x00\xff\xed\xa0\x80 the original bytes"
    hostile = DeadLetter(
        **{"source": "queue", "identity": "m-0", "route": "employees", "keys": [C], "body": body} | HOSTILE[name]
    )
    batch = [a_letter(A), hostile, a_letter(B)]

    recorded = bench.put(*batch)

    assert recorded.accepted == 3
    assert body in [bytes(row["body"]) for row in bench.rows("dead_letters")]
    assert len(bench.seqs(A)) == len(bench.seqs(B)) == 1
    assert bench.audit().accepted == 3
    assert bench.audit().balanced
    assert bench.put(*batch) == Recorded(known=3, opened=[])  # and a redelivery of it is known


def test_what_cannot_be_stored_is_rejected_with_its_bytes(bench: Bench):
    recorded = bench.put(a_letter(A, body=b"the bytes", origin={"offset": 10**5000}))

    assert (recorded.accepted, recorded.rejected, recorded.opened) == (1, 1, [])
    (row,) = bench.rows("dead_letters")
    assert (bytes(row["body"]), row["reject_reason"]) == (b"the bytes", "unstorable")
    assert "10000" not in row["reject_detail"]


def test_long_identities_that_begin_alike_are_not_taken_for_doubles(bench: Bench):
    batch = [a_letter(A, identity="7" * 5000 + end, stream="\ud800") for end in "xyz"]

    assert bench.put(*batch).accepted == 3
    assert bench.put(*batch).known == 3


# --- sums ------------------------------------------------------------------------------------------------------------


def test_accepted_is_counted_by_source_and_stream_at_intake(bench: Bench):
    bench.put(*[a_letter(A, stream="orders/0") for _ in range(3)], a_letter(A, stream="orders/1"), a_letter(source="topic"))
    bench.clock.advance(60)
    bench.put(a_letter(B, stream="orders/1"))

    found = {(row["source"], row["stream"]): row["accepted"] for row in bench.rows("tallies")}
    assert found == {("queue", "orders/0"): 3, ("queue", "orders/1"): 2, ("topic", ""): 1}
    (moved,) = [row for row in bench.rows("tallies") if row["stream"] == "orders/1"]
    assert moved["last_at"] - moved["first_at"] == 60_000
