"""Errors that one row causes: its savepoint is rolled back, and the batch goes on."""

from __future__ import annotations

from sqlalchemy.exc import DBAPIError, OperationalError

#: What a row that cannot be stored makes the database, its driver (lone surrogates) or the origin's JSON (5,000 digits) raise.
REFUSALS = (DBAPIError, ValueError, TypeError, OverflowError, RecursionError)


def is_the_rows_fault(error: Exception) -> bool:
    """Tell a row that cannot be stored from a database in trouble, which has to be asked again."""
    if isinstance(error, OperationalError):  # PostgreSQL's class 54: a key longer than its index takes
        return str(getattr(error.orig, "sqlstate", "")).startswith("54")
    return not (isinstance(error, DBAPIError) and error.connection_invalidated)
