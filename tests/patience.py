"""Waiting for what another process or thread does: bounded, and as long as it takes on a busy machine."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")


def until(look: Callable[[], T], *, seconds: float = 30.0, what: str = "it", every: float = 0.02) -> T:
    """Return the first true answer of `look`, asked `every` so many seconds; fail after `seconds`."""
    end = time.monotonic() + seconds
    while not (seen := look()):
        assert time.monotonic() < end, f"{what} did not come in {seconds:g} s"
        time.sleep(every)
    return seen
