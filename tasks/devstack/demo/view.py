"""A demo while it runs: a live table on a terminal, a line now and then elsewhere. On stderr, for stdout has the data."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from tasks.dlq.alerts.text import in_words

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from rich.console import Console

    from tasks.devstack.company.story import Story
    from tasks.devstack.demo.snapshot import Snapshot

#: Seconds between two lines where there is no terminal.
PACE = 2.0
_STATES = {"scheduled": "", "executing": "cyan", "retryable": "yellow", "completed": "green", "parked": "red"}
_ANSWERS = {"200": "green", "409": "yellow", "412": "yellow", "503": "yellow", "499": "yellow"}


class View(Protocol):
    """Shows a demo to a person."""

    def awaiting(self, names: Sequence[str]) -> None:
        """Show what has not started yet."""

    def show(self, snapshot: Snapshot) -> None:
        """Show what is seen now."""


@contextmanager
def watching(story: Story, console: Console, *, began: float) -> Iterator[View]:
    """Give the view that suits the console."""
    console.print(
        f"redrive demo: {in_words(story.messages, 'message')} about {len(story.employees)} employees, three consumers,"
        f" seed {story.seed}"
    )
    if not console.is_terminal:
        yield _Lines(console, began=began)
        return
    with Live(console=console, refresh_per_second=8) as live:
        yield _LiveTable(live, began=began)


class _LiveTable:
    def __init__(self, live: Live, *, began: float) -> None:
        self._live = live
        self._began = began

    def awaiting(self, names: Sequence[str]) -> None:
        self._live.update(Text(f"{time.monotonic() - self._began:4.0f} s  starting {', '.join(names)}", style="dim"))

    def show(self, snapshot: Snapshot) -> None:
        self._live.update(_table(snapshot, seconds=time.monotonic() - self._began))


class _Lines:
    def __init__(self, console: Console, *, began: float) -> None:
        self._console = console
        self._began = began
        self._due = began + PACE

    def awaiting(self, names: Sequence[str]) -> None:
        self._say(f"starting {', '.join(names)}")

    def show(self, snapshot: Snapshot) -> None:
        progress, jobs = snapshot.progress, sum(snapshot.jobs.values())
        self._say(
            f"{progress.handled}/{in_words(snapshot.messages, 'message')}, {in_words(progress.conflicts, 'conflict')},"
            f" {in_words(progress.dead_letters, 'dead letter')}, {jobs - snapshot.unsettled}/{in_words(jobs, 'job')},"
            f" {in_words(snapshot.calls.total, 'call')},"
            f" {progress.stale} left stale",
            now=snapshot.done,
        )

    def _say(self, text: str, *, now: bool = False) -> None:
        time_is = time.monotonic()
        if now or time_is >= self._due:
            self._due = time_is + PACE
            self._console.print(f"{time_is - self._began:4.0f} s  {text}", soft_wrap=True)


def _table(snapshot: Snapshot, *, seconds: float) -> Table:
    """Return the table; it fits into 80 columns."""
    progress = snapshot.progress
    jobs = sum(snapshot.jobs.values())
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column(style="bold", width=10)
    table.add_column(width=24)
    table.add_column()
    table.add_row(
        "Kafka", _bar(progress.handled, snapshot.messages), f"{progress.handled} of {in_words(snapshot.messages, 'message')}"
    )
    table.add_row("conflicts", "", Text(f"{progress.conflicts} -> {in_words(progress.dead_letters, 'dead letter')} on SQS"))
    table.add_row(
        "intake",
        _bar(snapshot.accepted, progress.dead_letters),
        f"{in_words(snapshot.accepted, 'dead letter')} -> {in_words(jobs, 'job')}",
    )
    table.add_row("recovery", _bar(jobs - snapshot.unsettled, jobs), _counted(snapshot.jobs, _STATES))
    table.add_row(
        "calls", f"{snapshot.calls.total}, at most {snapshot.calls.most} at once", _counted(snapshot.calls.statuses, _ANSWERS)
    )
    stale = Text(in_words(progress.stale, "employee"), style="yellow" if progress.stale else "green")
    table.add_row("left stale", stale, Text(f"{seconds:.0f} s", style="dim"))
    return table


def _bar(done: int, total: int) -> ProgressBar:
    return ProgressBar(total=max(total, 1), completed=done, width=22)


def _counted(counts: Mapping[str, int], styles: Mapping[str, str]) -> Text:
    """Return the counts that are not zero, in the order of `styles`, others last."""
    text = Text()
    order = [*styles, *sorted(set(counts) - set(styles))]
    for name in [name for name in order if counts.get(name)]:
        text.append(f"{'no answer' if name == '499' else name} ", style=styles.get(name, "red"))
        text.append(f"{counts[name]}  ")
    return text
