"""Errors that one bad row causes: its savepoint is rolled back, and the rest of the batch is written."""

from __future__ import annotations

from sqlalchemy.exc import DBAPIError, OperationalError

#: Errors of the database, of its driver (lone surrogates) or of JSON (5,000 digits) for a row that cannot be stored.
REFUSALS = (DBAPIError, ValueError, TypeError, OverflowError, RecursionError)


def is_bad_row(error: Exception) -> bool:
    """Whether the row cannot be stored. Otherwise the database has a problem, and the batch is tried again."""
    if isinstance(error, OperationalError):  # PostgreSQL, class 54: a key that is too long for its index
        return str(getattr(error.orig, "sqlstate", "")).startswith("54")
    return not (isinstance(error, DBAPIError) and error.connection_invalidated)
