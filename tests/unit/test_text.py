import pytest

from tasks.dlq.text import (
    escape,
    format_count,
    format_minute,
    format_parameters,
    format_relative,
    format_span,
    format_time,
    join_names,
    shorten,
)

NOW = 1_700_000_000_000
MOMENT = "2023-11-14T22:13:20.000Z"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain ünï", "plain ünï"),
        ("\x1b[31mred", "\\x1b[31mred"),
        ("one\ntwo\r", "one\\ntwo\\r"),
        ("right\u202eleft", "right\\u202eleft"),
        ("\ud800", "\\ud800"),
        (None, ""),
        (7, "7"),
    ],
)
def test_what_does_not_print_is_shown_as_its_escape(text: object, shown: str):
    assert escape(text) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "0s"), (59, "59s"), (60, "1m"), (119, "1m"), (3_600, "1h"), (86_399, "23h"), (86_400, "1d"), (10**7, "115d")],
)
def test_a_span_has_the_largest_unit_that_it_fills(seconds: int, shown: str):
    assert format_span(seconds) == shown


@pytest.mark.parametrize(("after", "shown"), [(-30, "in 30s"), (0, "now"), (90, "1m ago")])
def test_a_moment_is_told_beside_the_ledgers_own_now(after: int, shown: str):
    assert format_relative(MOMENT, NOW + after * 1000) == shown


def test_no_time_is_nothing():
    assert (format_relative(None, NOW), format_time(None)) == ("", None)


def test_a_time_of_the_ledger_is_iso_8601():
    assert format_time(NOW) == MOMENT


def test_an_error_is_shortened_to_one_line():
    assert shorten(ValueError(" a\n\tb ")) == "a b"
    assert shorten("x" * 300) == "x" * 200


def test_parameters_are_shown_as_they_are_typed():
    assert format_parameters({"employeeId": "12", "team": "a b"}) == "employeeId=12 team=a b"


def test_names_are_joined_as_in_a_sentence():
    assert [join_names(names) for names in ([], ["a"], ["a", "b"], ["a", "b", "c"])] == ["", "a", "a and b", "a, b and c"]


def test_a_time_is_shown_to_the_minute():
    assert format_minute(NOW) == "2023-11-14 22:13 UTC"


def test_counts_agree_with_their_noun():
    assert [format_count(n, "job") for n in (0, 1, 2000)] == ["0 jobs", "1 job", "2,000 jobs"]
