import io

import pytest
from rich.console import Console

from tasks.devstack.company.store import Progress
from tasks.devstack.demo import progress
from tasks.devstack.demo.progress import INTERVAL, ProgressPrinter
from tasks.devstack.demo.snapshot import NO_CALLS, Snapshot

RUNNING = Snapshot(
    messages=60,
    progress=Progress(handled=30, conflicts=1, dead_letters=2, stale=2),
    jobs={"completed": 1, "scheduled": 1},
    statistics={**NO_CALLS, "calls": 1},
)
DONE = Snapshot(messages=1, progress=Progress(handled=1))


class Clock:
    """A monotonic clock that a test sets."""

    def __init__(self) -> None:
        self.now = 100.0

    def monotonic(self) -> float:
        return self.now


def test_a_line_is_printed_once_in_an_interval_and_at_the_end(monkeypatch: pytest.MonkeyPatch):
    clock, output = Clock(), io.StringIO()
    monkeypatch.setattr(progress, "time", clock)
    printer = ProgressPrinter(Console(file=output))
    printer.print_missing(["beat", "worker"])
    assert output.getvalue() == ""
    clock.now += INTERVAL
    printer.print_missing(["beat", "worker"])
    printer.print_snapshot(RUNNING)
    clock.now += INTERVAL
    printer.print_snapshot(RUNNING)
    printer.print_snapshot(DONE)
    assert output.getvalue().splitlines() == [
        "   2 s  starting beat, worker",
        "   4 s  30/60 messages, 1 conflict, 2 dead letters, 1/2 jobs, 1 call, 2 stale",
        "   4 s  1/1 message, 0 conflicts, 0 dead letters, 0/0 jobs, 0 calls, 0 stale",
    ]
    assert printer.seconds == 2 * INTERVAL
