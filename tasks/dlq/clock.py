"""The clock for durations inside one process. What workers compare with each other is read from the ledger's clock."""

from __future__ import annotations

import time


def boottime() -> float:
    """Return seconds on a monotonic clock that goes on while the machine is suspended: a lease does, too."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else time.monotonic()
