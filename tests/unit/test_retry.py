# ruff: noqa: RUF001 - look-alikes of digits are what is tested here
import random
import string
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.dlq.calls.api import Answer, SyncResult, classify
from tasks.dlq.calls.outcome import Answers, Outcome, parse_status_set
from tasks.dlq.calls.retry import Decision, RetryPolicy, Verdict, decide
from tasks.dlq.calls.retry_after import parse_retry_after
from tasks.dlq.failures import group_key, normalise_message

POLICY = RetryPolicy()
RETRYABLE = [Outcome.CONFLICT, Outcome.THROTTLED, Outcome.API_FAULT, Outcome.NETWORK, Outcome.DEADLINE, Outcome.LOST]
NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC).timestamp()


def after(
    outcome: Outcome,
    *,
    attempts: int = 1,
    misses: int = 0,
    retry_after: float | None = None,
    chance: float = 0.5,
    policy: RetryPolicy = POLICY,
) -> Decision:
    return decide(policy, outcome, attempts=attempts, misses=misses, retry_after=retry_after, rng=lambda: chance)


# --- what an answer means --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("statuses", "outcome"),
    [
        ([200, 201, 202, 204, 299], Outcome.SUCCESS),
        ([409, 412, 423, 425], Outcome.CONFLICT),
        ([429], Outcome.THROTTLED),
        ([408, 500, 502, 503, 504, 599], Outcome.API_FAULT),
        ([401, 403], Outcome.REFUSED),
        ([101, 300, 301, 302, 304, 307, 308, 400, 404, 405, 410, 413, 422, 451, 499], Outcome.HOPELESS),
        ([600, 999, 0, 99], Outcome.API_FAULT),  # no HTTP status: RFC 9110 section 15
    ],
)
def test_each_status_has_one_meaning(statuses: list[int], outcome: Outcome):
    assert {classify(SyncResult(answer=Answer.ANSWERED, status=status), Answers()) for status in statuses} == {outcome}


@pytest.mark.parametrize("status", [None, 200, 503])
def test_without_an_answer_the_status_does_not_count(status: int | None):
    assert classify(SyncResult(answer=Answer.NETWORK, status=status), Answers()) is Outcome.NETWORK
    assert classify(SyncResult(answer=Answer.DEADLINE, status=status), Answers()) is Outcome.DEADLINE
    assert classify(SyncResult(answer=Answer.NOT_SENT, status=status), Answers()) is Outcome.NOT_SENT


@pytest.mark.parametrize(
    ("answers", "status", "outcome"),
    [
        (Answers(success=parse_status_set(["2xx", 404, 410])), 404, Outcome.SUCCESS),
        (Answers(success=parse_status_set([200, 201, "203-299"])), 202, Outcome.HOPELESS),
        (Answers(success=parse_status_set([200]), conflict=parse_status_set([202])), 202, Outcome.CONFLICT),
        (Answers(conflict=parse_status_set([503])), 503, Outcome.CONFLICT),
        (Answers(api_fault=parse_status_set(["4xx"]), refused=frozenset()), 401, Outcome.API_FAULT),
        (Answers(throttled=parse_status_set([503])), 429, Outcome.HOPELESS),
        (Answers(refused=parse_status_set([407])), 407, Outcome.REFUSED),
        (Answers(success=frozenset()), 200, Outcome.HOPELESS),
    ],
)
def test_the_configured_lists_decide(answers: Answers, status: int, outcome: Outcome):
    assert classify(SyncResult(answer=Answer.ANSWERED, status=status), answers) is outcome


# --- what becomes of the job -----------------------------------------------------------------------------------------


def test_a_success_completes_and_a_hopeless_answer_parks():
    assert after(Outcome.SUCCESS).verdict is Verdict.COMPLETE
    assert after(Outcome.SUCCESS, attempts=99).verdict is Verdict.COMPLETE
    assert after(Outcome.HOPELESS).verdict is Verdict.PARK


@pytest.mark.parametrize("outcome", RETRYABLE)
def test_the_last_allowed_attempt_parks(outcome: Outcome):
    assert [after(outcome, attempts=attempts).verdict for attempts in (1, 7, 8, 9)] == [
        *(Verdict.RETRY, Verdict.RETRY),
        *(Verdict.PARK, Verdict.PARK),
    ]
    assert after(outcome).spend
    assert not after(outcome).pause


@pytest.mark.parametrize("outcome", [Outcome.NOT_SENT, Outcome.REFUSED])
def test_what_never_reached_the_api_spends_no_attempt(outcome: Outcome):
    decision = after(outcome, attempts=99, misses=1)
    assert decision.verdict is Verdict.RETRY
    assert not decision.spend


def test_misses_have_a_bound_of_their_own():
    assert [after(Outcome.NOT_SENT, misses=misses).verdict for misses in (1, 49, 50)] == [
        *(Verdict.RETRY, Verdict.RETRY),
        Verdict.PARK,
    ]
    assert after(Outcome.CONFLICT, misses=99).verdict is Verdict.RETRY


def test_misses_back_off_by_their_own_count():
    assert after(Outcome.NOT_SENT, attempts=7, misses=1, chance=1.0).delay == 5.0
    assert after(Outcome.NOT_SENT, attempts=1, misses=4, chance=1.0).delay == 40.0


def test_refused_credentials_pause_the_route_and_never_park_the_job():
    decision = after(Outcome.REFUSED, attempts=99, misses=99)
    assert decision.pause
    assert decision.verdict is Verdict.RETRY
    assert not any(after(outcome).pause for outcome in Outcome if outcome is not Outcome.REFUSED)


def test_the_back_off_doubles_to_its_cap_and_jitters_over_the_whole_range():
    policy = RetryPolicy(max_attempts=100, base=5, cap=60)
    longest = [after(Outcome.NETWORK, attempts=n, chance=1.0, policy=policy).delay for n in range(1, 7)]
    assert longest == [5, 10, 20, 40, 60, 60]
    shortest = [after(Outcome.NETWORK, attempts=n, chance=0.0, policy=policy).delay for n in range(1, 7)]
    assert shortest == [1, 1, 1, 1, 1, 1]
    assert after(Outcome.NETWORK, attempts=3, chance=0.5, policy=policy).delay == 10.5


@given(
    outcome=st.sampled_from(Outcome),
    attempts=st.integers(0, 10**6),
    misses=st.integers(0, 10**6),
    retry_after=st.none() | st.floats(-10, 10**9),
    base=st.floats(0.01, 3600),
    cap=st.floats(0.01, 86400),
    seed=st.integers(),
)
def test_no_delay_is_ever_zero_or_unbounded(  # noqa: PLR0917 - hypothesis passes them by name
    outcome: Outcome, attempts: int, misses: int, retry_after: float | None, base: float, cap: float, seed: int
):
    policy = RetryPolicy(max_attempts=10**7, max_misses=10**7, base=base, cap=cap)
    rng = random.Random(seed).random
    decision = decide(policy, outcome, attempts=attempts, misses=misses, retry_after=retry_after, rng=rng)
    if decision.verdict is Verdict.RETRY:
        assert min(1.0, base, cap) <= decision.delay <= max(cap, policy.max_retry_after + base)
    else:
        assert decision.delay == 0
    assert decision.route_delay is None or 0 < decision.route_delay <= max(cap, policy.max_retry_after + base)


@pytest.mark.parametrize("outcome", RETRYABLE)
def test_retry_after_is_a_lower_bound_with_jitter_on_top(outcome: Outcome):
    assert after(outcome, retry_after=120, chance=0.0).delay == 120
    assert after(outcome, retry_after=120, chance=1.0).delay == 125
    assert after(outcome, retry_after=2, attempts=4, chance=1.0).delay == 40


def test_retry_after_is_clamped():
    assert after(Outcome.API_FAULT, retry_after=10**9, chance=0.0) == Decision(
        verdict=Verdict.RETRY, delay=3600, route_delay=3600
    )
    assert after(Outcome.API_FAULT, retry_after=90, chance=0.0, policy=RetryPolicy(max_retry_after=60)).delay == 60
    assert after(Outcome.API_FAULT, retry_after=-5, chance=1.0).delay == 5


def test_the_whole_route_waits_when_the_api_asked_for_it():
    assert after(Outcome.THROTTLED, retry_after=30).route_delay == 30
    assert after(Outcome.API_FAULT, retry_after=30).route_delay == 30
    assert after(Outcome.API_FAULT).route_delay is None
    assert after(Outcome.CONFLICT, retry_after=30).route_delay is None  # only this key has to wait


@pytest.mark.parametrize("retry_after", [None, 0.0, -5.0])
def test_throttled_without_a_time_the_route_backs_off_as_the_job_does(retry_after: float | None):
    decision = after(Outcome.THROTTLED, retry_after=retry_after)
    assert decision.route_delay == decision.delay > 0


def test_the_route_waits_although_this_job_is_parked():
    assert after(Outcome.THROTTLED, attempts=8, retry_after=30) == Decision(verdict=Verdict.PARK, route_delay=30)


# --- Retry-After -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        *(("120", 120.0), ("0", 0.0), (" 7\t", 7.0), ("-5", 0.0), ("007", 7.0)),
        ("Sun, 01 Mar 2026 12:01:00 GMT", 60.0),
        ("Sunday, 01-Mar-26 12:01:00 GMT", 60.0),
        ("Sun Mar  1 12:01:00 2026", 60.0),
        ("sun, 01 mar 2026 12:01:00 gmt", 60.0),
        ("Sun, 01 Mar 2026 11:00:00 GMT", 0.0),
        ("Sunday, 06-Nov-94 08:49:37 GMT", 0.0),
        ("Sunday, 01-Mar-77 12:00:00 GMT", 0.0),  # 51 years ahead: 1977
        ("9" * 5000, 366 * 86400.0),
    ],
)
def test_seconds_and_all_three_http_dates_are_read(value: str, seconds: float):
    assert parse_retry_after(value, now=NOW) == seconds


@pytest.mark.parametrize(
    "value",
    [
        *(None, "", " ", "soon", "1.5", "1e3", "+5", "0x10", "１２", "5 s", "5, 6", "--5", "\x00", "\ud800", "inf", "nan"),
        "Sun, 31 Feb 2026 12:00:00 GMT",
        "Sun, 01 Abc 2026 12:00:00 GMT",
        "Sun, 01 Mar 2026 24:00:00 GMT",
        "Sun, 01 Mar 2026 12:61:00 GMT",
        "Sun, 01 Mar 2026 12:00:61 GMT",
        "2026-03-01T12:00:00Z",
    ],
)
def test_anything_else_is_no_retry_after(value: str | None):
    assert parse_retry_after(value, now=NOW) is None


@given(st.text(max_size=60) | st.text(string.digits + " ,:-GMTSunMar", max_size=40))
def test_no_header_makes_it_raise(value: str):
    seconds = parse_retry_after(value, now=NOW)
    assert seconds is None or 0 <= seconds <= 366 * 86400


# --- lists of statuses -----------------------------------------------------------------------------------------------


def test_statuses_are_named_one_by_one_by_family_and_by_range():
    assert parse_status_set([404, "410"]) == {404, 410}
    assert parse_status_set(["2xx"]) == parse_status_set(["200-299"]) == parse_status_set("2XX") == set(range(200, 300))
    assert parse_status_set([" 5xx ", "408"]) == {408, *range(500, 600)}
    assert parse_status_set([]) == frozenset()


@pytest.mark.parametrize(
    "spec",
    [
        *(99, 600, 0, -1, True, 20.0),
        *("6xx", "0xx", "2x", "2xxx", "299-200", "200-", "-299", "200-600", "", "ok", "２xx", "200 - 299"),
    ],
)
def test_what_is_no_status_is_refused_with_what_is_allowed(spec: str | int):
    with pytest.raises(ValueError, match=r'is no HTTP status: write 404, "2xx" or "200-299"'):
        parse_status_set([spec])


# --- failure groups --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other", "normal"),
    [
        ("employee 1234 is locked", "employee 77 is locked", "employee <n> is locked"),
        ("employee1234", "employee5", "employee<n>"),
        (
            "no 123e4567-e89b-12d3-a456-426614174000 here",
            "no 00000000-E89B-12D3-A456-426614174000 here",
            "no <uuid> here",
        ),
        ("at 0x7f3a9c and deadbeef01", "at 0x1 and 00c0ffee", "at <hex> and <hex>"),
        ("name 'Ada' unknown", "name 'Grace H.' unknown", "name <text> unknown"),
        ('{"id":"a b"}', '{"id":"c"}', "{<text>:<text>}"),
        ("took 1.5 s at 2026-03-01T12:00:01", "took 20 s at 2027-12-24T01:02:03", "took <n> s at <n>-<n>-<n>T<n>"),
        ("request 01ARZ3NDEKTSV4RRFFQ69G5FAV failed", "request 01BX5ZZKBKACTAV9WEVGEMMVRY failed", "request <id> failed"),
        ("line\r\n  one\ttwo", "line one two", "line one two"),
        ("can't reach it, isn't up", "can't reach it, isn't up", "can't reach it, isn't up"),
    ],
)
def test_what_differs_from_job_to_job_is_taken_out(one: str, other: str, normal: str):
    assert normalise_message(one) == normalise_message(other) == normal


@given(st.text())
def test_a_normalised_message_is_one_short_line(text: str):
    line = normalise_message(text)
    assert len(line) <= 200
    assert line.isprintable()
    assert not any(digit in line for digit in string.digits)


def test_a_long_message_takes_no_time():
    assert len(normalise_message("a-" * 10**6)) == 200
    assert len(normalise_message("'" * 10**6)) <= 200


def test_the_group_tells_causes_apart_and_jobs_not():
    key = group_key("employees", Outcome.API_FAULT, 503, "employee 1 failed")
    assert len(key) == 32
    assert set(key) <= set(string.hexdigits.lower())
    assert key == group_key("employees", Outcome.API_FAULT, 503, "employee 22 failed")
    others = [
        group_key("offices", Outcome.API_FAULT, 503, "employee 1 failed"),
        group_key("employees", Outcome.CONFLICT, 503, "employee 1 failed"),
        group_key("employees", Outcome.API_FAULT, 500, "employee 1 failed"),
        group_key("employees", Outcome.API_FAULT, None, "employee 1 failed"),
        group_key("employees", Outcome.API_FAULT, 503, "office 1 failed"),
    ]
    assert len({key, *others}) == 6
    assert group_key("employees", Outcome.NETWORK, None, "\ud800")
