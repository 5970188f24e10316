"""Waiting for another process or thread: as long as it takes on a busy machine, but not for ever."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

#: Seconds to wait for something that will happen. Only a test that fails needs so long.
TEST_TIMEOUT = 180.0


def until(look: Callable[[], T], *, seconds: float = TEST_TIMEOUT, what: str = "it", every: float = 0.02) -> T:
    """Return the first true answer of `look`, asked `every` so many seconds; fail after `seconds`."""
    end = time.monotonic() + seconds
    while not (seen := look()):
        assert time.monotonic() < end, f"{what} did not come in {seconds:g} s"
        time.sleep(every)
    return seen
