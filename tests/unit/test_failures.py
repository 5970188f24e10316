import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.dlq.calls.outcome import Outcome
from tasks.dlq.failures import group_key, normalise_message


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
