"""A worker in a process of its own that stops itself (SIGSTOP) at an edge between its claim and the first byte of its call.

Run as `stopped_worker.py LEDGER_URL ROUTE_URL JOB_ID EDGE`. The signal goes to the thread that makes the call, which therefore
executes nothing more until SIGCONT; `waitid` tells the parent when the process stands.
"""

from __future__ import annotations

import signal
import sys
import threading
from typing import TYPE_CHECKING, Any

from tasks.adapters.http import RequestsSyncApi
from tasks.adapters.http.deadline import CallGuard
from tasks.dlq.calls import route
from tasks.dlq.calls.retry import RetryPolicy
from tasks.dlq.ledger import Ledger
from tasks.dlq.parameters import Integer
from tasks.dlq.services.recovery import Recovery

if TYPE_CHECKING:
    from collections.abc import Callable

START, DEADLINE = 0.3, 1.0


class NoWakeups:
    """Sends no wake-ups."""

    def send(self, job_id: int, *, delay: float) -> None:
        """Do nothing."""


def stop() -> None:
    """Stop this thread until SIGCONT."""
    signal.pthread_kill(threading.get_ident(), signal.SIGSTOP)


def stop_before(owner: type, name: str, when: Callable[..., bool] = lambda *_, **__: True, *, nth: int = 1) -> None:
    """Let the `nth` call of a method for which `when` holds stop the process before it begins."""
    original, countdown = getattr(owner, name), iter(range(nth - 1, -1, -1))

    def stopping(self: Any, *args: Any, **named: Any) -> Any:
        if when(*args, **named) and next(countdown, None) == 0:
            stop()
        return original(self, *args, **named)

    setattr(owner, name, stopping)


def connects(phase: str, *_: object, **__: object) -> bool:
    return phase.startswith("connecting")


def sends(_phase: str, *_: object, sending: bool = False) -> bool:
    return sending


EDGES: dict[str, Callable[[], None]] = {
    "never": lambda: None,
    "claimed": lambda: stop_before(Recovery, "call"),
    "about to prepare": lambda: stop_before(RequestsSyncApi, "call"),
    "about to connect": lambda: stop_before(CallGuard, "enter", connects),
    "about to send": lambda: stop_before(CallGuard, "enter", sends),
    "about to send the second call": lambda: stop_before(CallGuard, "enter", sends, nth=2),
}


def main(ledger_url: str, route_url: str, job_id: str, edge: str) -> None:
    """Answer one wake-up."""
    EDGES[edge]()
    route.LEASE_START = START  # a lease that allows its call to begin so late: else the test would take that long
    employees = route.Route(
        name="employees",
        url=route_url,
        params={"employeeId": Integer()},
        deadline=DEADLINE,
        drain=0.0,
        retry=RetryPolicy(base=600.0, cap=600.0),
    )
    ledger = Ledger(ledger_url)
    api = RequestsSyncApi({})
    Recovery(ledger, {"employees": employees}, api, NoWakeups(), slice_seconds=5.0, worker="w", rng=lambda: 1.0).run_slice(
        int(job_id)
    )
    api.close()
    ledger.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
