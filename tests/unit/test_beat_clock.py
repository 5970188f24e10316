"""Beat when the clock is put back: it goes on sweeping."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from celery import Celery
from celery.beat import ScheduleEntry

from tasks.worker.lifecycle import SweepScheduler


class Beat(SweepScheduler):
    """The scheduler over entries of a test's own, without its file and without a broker."""

    schedule: Any = None  # a property there
    producer: Any = None

    def __init__(self, app: Celery, *entries: ScheduleEntry) -> None:
        super().__init__(app, lazy=True, max_interval=5)
        self.schedule = {entry.name: entry for entry in entries}
        self.sent: list[str] = []

    def apply_entry(self, entry: Any, **_: Any) -> None:
        self.sent.append(entry.name)

    def reserve(self, entry: Any) -> Any:
        self.schedule[entry.name] = following = next(entry)
        return following


@pytest.fixture
def app() -> Celery:
    return Celery("test", set_as_current=False)


def entry(app: Celery, name: str, every: float, *, ran: float) -> ScheduleEntry:
    """An entry that ran `ran` seconds from now."""
    made = ScheduleEntry(name=name, task=f"redrive.{name}", schedule=timedelta(seconds=every), app=app)
    made.last_run_at = made.default_now() + timedelta(seconds=ran)
    return made


def test_a_sweep_that_ran_in_the_future_is_due_after_its_interval(app: Celery):
    beat = Beat(app, entry(app, "promote", 5, ran=3600), entry(app, "prune", 3600, ran=1800))
    assert beat.tick() <= 5
    assert beat.sent == []
    for each in beat.schedule.values():
        assert each.last_run_at <= each.default_now()
        assert each.is_due().next <= each.schedule.seconds


def test_what_is_due_is_sent_also_beside_one_that_ran_in_the_future(app: Celery):
    beat = Beat(app, entry(app, "promote", 5, ran=-10), entry(app, "prune", 3600, ran=3600))
    beat.tick()
    assert beat.sent == ["promote"]


def test_a_clock_that_goes_right_changes_nothing(app: Celery):
    beat = Beat(app, entry(app, "promote", 60, ran=-10))
    before = beat.schedule["promote"].last_run_at
    beat.tick()
    assert beat.schedule["promote"].last_run_at == before
