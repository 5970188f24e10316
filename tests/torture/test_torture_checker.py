"""The checker finds what it is there for: histories that are right but for one thing."""

from dataclasses import replace

import pytest
from harness.checker import check
from harness.history import Epoch, History, Sent, Span, read_rows
from harness.sample_history import BOUNDS, attempt, call, good_run, kinds


@pytest.fixture
def good() -> History:
    return good_run()


def test_a_good_run_has_no_findings(good: History):
    verdict = check(good, BOUNDS)
    assert verdict.findings == []
    assert verdict.standings == {"recovered": 2, "rejected": 1}
    assert verdict.accepted == 3


# --- nothing lost -----------------------------------------------------------------------------------------------------


def test_a_confirmed_message_that_never_came_in_is_lost(good: History):
    good.sent.append(Sent(number=4, identity="d"))
    assert kinds(good) == {"lost"}


def test_what_is_still_in_its_source_is_not_lost(good: History):
    good.sent.append(Sent(number=4, identity="d"))
    assert check(good, BOUNDS, unread=1).findings == []
    good.sent.append(Sent(number=5, identity="orders-dlt/0/5"))
    assert check(good, BOUNDS, unread=1).count("lost") == 2


def test_what_sqs_itself_lost_is_excused_once_it_was_sent_again(good: History):
    good.sent.append(Sent(number=2, identity="d", wiped=True))
    assert kinds(good) == set()


def test_what_sqs_lost_and_nobody_sent_again_is_lost(good: History):
    good.sent.append(Sent(number=4, identity="d", wiped=True))
    assert kinds(good) == {"lost"}


def test_a_letter_that_stands_nowhere_is_lost(good: History):
    good.needs.pop()
    good.sums["recovered"] = 1
    assert "lost" in kinds(good)


@pytest.mark.parametrize("name", ["accepted", "recovered", "parked", "rejected", "discarded"])
def test_an_audit_that_is_off_by_one_is_found(good: History, name: str):
    good.sums[name] += 1
    assert kinds(good) == {"books"}


def test_a_letter_that_was_counted_twice_is_found(good: History):
    good.letters.append(good.letters[0])
    good.sums["accepted"] += 1
    assert kinds(good) == {"books"}


def test_a_letter_that_nobody_sent_is_found(good: History):
    good.sent.pop(0)
    assert kinds(good) == {"books"}


def test_an_unsure_send_may_come_in(good: History):
    good.sent.pop(0)
    good.unsure = {1}
    assert kinds(good) == set()


def test_work_that_is_left_over_is_found(good: History):
    good.jobs[0] = replace(good.jobs[0], state="retryable", covered_seq=1)
    good.samples.pop()
    good.sums |= {"recovered": 1, "pending": 1}
    assert kinds(good) == {"books"}


def test_poison_that_was_taken_for_sound_is_found(good: History):
    good.sent[0] = replace(good.sent[0], poison=True)
    assert kinds(good) == {"books"}


# --- single flight ----------------------------------------------------------------------------------------------------


def test_two_open_calls_of_one_key_overlap(good: History):
    good.samples.clear()
    good.calls[0] = replace(good.calls[0], ended=21.2)
    assert kinds(good) == {"overlaps"}


def test_a_call_that_never_ended_is_open(good: History):
    good.calls[0] = replace(good.calls[0], ended=None)
    assert "overlaps" in kinds(good)


def test_a_call_right_after_the_client_went_overlaps_what_the_api_still_does(good: History):
    good.samples.clear()
    good.calls[0] = replace(good.calls[0], gone=21.0, ended=21.3)
    assert kinds(good) == {"overlaps"}


def test_an_api_that_works_on_for_longer_than_the_drain_is_told_apart(good: History):
    good.samples.clear()
    good.calls[0] = replace(good.calls[0], gone=13.0, ended=21.3)
    verdict = check(good, BOUNDS)
    assert (verdict.findings, verdict.outlasted) == ([], 1)


def test_more_open_calls_than_the_limit_overlap(good: History):
    keys = ["orders/1", "orders/2", "orders/3"]
    for fence, key in enumerate(keys, 1):
        good.attempts.append(attempt(key, fence, 30.0 + 2 * fence, 31.0 + 2 * fence))
        good.calls.append(call(key, fence, 30.0 + fence / 10, 40.0))
    assert kinds(good) == {"overlaps"}
    del good.attempts[-1], good.calls[-1]
    assert kinds(good) == set()


def test_attempts_that_overlap_by_the_ledger_are_found_without_the_api(good: History):
    good.attempts[0] = attempt("employees/1", 1, 11.0, 12.0)
    good.attempts.insert(1, attempt("employees/2", 7, 11.5, 11.8))
    assert kinds(good) == {"overlaps"}


def test_an_attempt_settled_late_was_open_for_its_lease_only(good: History):
    good.attempts[0] = attempt("employees/1", 1, 11.0, 60.0)
    assert kinds(good) == set()


def test_an_attempt_that_was_settled_twice_was_over_when_the_api_says_so(good: History):
    good.attempts[0] = replace(good.attempts[0], began=15.0, ended=21.5)
    good.calls[0] = replace(good.calls[0], began=15.1, ended=20.9)
    good.samples.pop(0)
    assert kinds(good) == {"overlaps"}
    good.settles_twice = True
    assert kinds(good) == set()
    good.calls[0] = replace(good.calls[0], ended=None)
    assert kinds(good) == {"overlaps"}


def test_an_attempt_that_begins_within_anothers_lease_overlaps(good: History):
    good.attempts[0] = attempt("employees/1", 1, 15.0, None)
    assert kinds(good) == {"overlaps"}


# --- covered means covered --------------------------------------------------------------------------------------------


def test_a_need_that_came_during_the_call_is_not_covered_by_it(good: History):
    good.letters[1] = replace(good.letters[1], recorded=21.5)
    assert kinds(good) == {"uncovered"}


def test_a_failed_call_covers_nothing(good: History):
    good.calls[1] = replace(good.calls[1], status=503)
    assert kinds(good) == {"uncovered"}


def test_a_call_of_another_key_covers_nothing(good: History):
    good.calls[1] = replace(good.calls[1], key="employees/2")
    good.attempts[1] = replace(good.attempts[1], key="employees/2")
    assert kinds(good) == {"uncovered"}


def test_coverage_that_was_seen_too_early_is_found_though_a_success_came_later(good: History):
    good.samples[0] = replace(good.samples[0], covered_seq=2, at=20.5)
    assert kinds(good) == {"uncovered"}


# --- bounds and fences ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("budget", ["attempts", "misses", "crashes"])
def test_a_budget_that_was_overdrawn_is_found(good: History, budget: str):
    good.jobs[0] = replace(good.jobs[0], **{budget: getattr(BOUNDS, budget) + 1})
    assert kinds(good) == {"bounds"}


def test_a_call_without_an_attempt_is_found(good: History):
    good.calls.append(call("employees/1", 3, 30.0, 30.1))
    assert kinds(good) == {"bounds"}


def test_a_fence_that_does_not_grow_is_found(good: History):
    good.calls[1] = replace(good.calls[1], fence=1)
    good.attempts[1] = replace(good.attempts[1], fence=1)
    assert kinds(good) == {"fences"}


# --- servers that stand still ------------------------------------------------------------------------------------------


def test_an_overlap_is_not_judged_when_the_api_itself_stood_still(good: History):
    good.samples.clear()
    good.calls[0] = replace(good.calls[0], gone=21.0, ended=21.3)
    good.stalls = [Span(since=19.9, until=21.0)]
    verdict = check(good, BOUNDS)
    assert (verdict.findings, verdict.blurred) == ([], 1)
    good.stalls = [Span(since=17.0, until=18.0), Span(since=20.0, until=20.1)]
    assert kinds(good) == {"overlaps"}, "it had stood still long before, or hardly"


def test_a_request_of_a_process_that_was_stopped_before_it_went_out_is_told_apart(good: History):
    good.calls[0] = replace(good.calls[0], began=30.0, ended=30.2)
    good.samples[0] = replace(good.samples[0], at=32.0)
    good.samples[1] = replace(good.samples[1], at=31.0)
    assert kinds(good) == {"fences"}
    good.stops = [Span(since=11.05, until=29.9)]
    verdict = check(good, BOUNDS)
    assert (verdict.findings, verdict.suspended) == ([], 1)


# --- letters are recorded when nobody can overlook them any more ------------------------------------------------------


def test_a_letter_that_was_not_there_when_somebody_looked_was_recorded_later():
    rows = [{"row": "letter", "id": 7, "identity": "a", "number": 1, "received_at": 1_700_000_010_000, "rejected": False}]
    epoch = Epoch(wall=1_700_000_000_000, monotonic=0.0)
    (letter,) = read_rows([dict(row) for row in rows], epoch, {7: 12.0}).letters
    assert letter.recorded == 12.0
    (letter,) = read_rows([dict(row) for row in rows], epoch, {7: 9.0}).letters
    assert letter.recorded == 10.0


# --- clocks -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hours", [-2, -1, 0, 1, 30])
def test_a_moved_clock_is_read_back(hours: int):
    epoch = Epoch(wall=1_700_000_000_000, monotonic=50.0)
    assert epoch.seconds(1_700_000_000_000 + 90_250 + hours * 3600_000) == pytest.approx(140.25)
