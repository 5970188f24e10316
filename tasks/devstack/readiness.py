"""Waiting until child processes are ready."""

from __future__ import annotations

import http.client
import time
from http import HTTPStatus
from typing import TYPE_CHECKING

from tasks.dlq.errors import OutOfReach

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tasks.devstack.child import Ended

#: Seconds between two checks.
_INTERVAL = 0.05


def wait_until_ready(
    find_missing: Callable[[], Sequence[str]],
    find_ended: Callable[[], Ended | None],
    *,
    timeout: float,
    make_hint: Callable[[], str],
    report: Callable[[Sequence[str]], None] = lambda _missing: None,
) -> None:
    """Return when `find_missing` returns no name. Until then pass the names to `report`.

    Raises:
        OutOfReach: a process has ended, or `timeout` seconds have passed. `make_hint` returns the hint.
    """
    deadline = time.monotonic() + timeout
    while missing := find_missing():
        if ended := find_ended():
            raise OutOfReach(f"{ended} before it was ready", hint=make_hint())
        if time.monotonic() > deadline:
            raise OutOfReach(f"not ready after {timeout:.0f} s: {', '.join(missing)}", hint=make_hint())
        report(missing)
        time.sleep(_INTERVAL)


def answers_ok(port: int, path: str) -> bool:
    """Check whether an HTTP server on this machine answers 200."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
