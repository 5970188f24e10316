"""The Retry-After header."""

from __future__ import annotations

import re
from datetime import UTC
from email.utils import parsedate_to_datetime

A_YEAR = 366 * 86400.0


def parse_retry_after(value: str | None, *, now: float) -> float | None:
    """Return the seconds from `now` (since the epoch) that a Retry-After header asks for; RFC 9110 section 10.2.3.

    Both forms are read: seconds, and an HTTP-date. None if the header is missing or is neither; 0 if the time is in the past;
    at most a year.
    """
    text = (value or "").strip(" \t")
    if re.fullmatch(r"-?[0-9]+", text, re.ASCII):
        seconds = float(text)  # thousands of digits become infinite
    else:
        try:
            date = parsedate_to_datetime(text)
        except ValueError:
            return None
        seconds = (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - now
    return min(max(seconds, 0.0), A_YEAR)
