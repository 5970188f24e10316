# ruff: noqa: RUF001 - look-alikes of digits are what is tested here
import string
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.dlq.calls.retry_after import parse_retry_after

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC).timestamp()


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
