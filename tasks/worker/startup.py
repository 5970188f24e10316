"""What every command of Celery does when it cannot start."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tasks.dlq.errors import RedriveError

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def exit_on_error() -> Iterator[None]:
    """End the process with a message for people, where Celery would print a traceback."""
    try:
        yield
    except RedriveError as error:
        sys.stderr.write(f"redrive: {error.message}\n{error.hint}\n")
        raise SystemExit(error.exit_code) from None
