"""One poll of a queue is out at a time, and one timer for the next: whatever polls end in, for however long."""

from __future__ import annotations

import heapq
from itertools import count
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from tasks.worker.transport import LONGEST_PAUSE, POLL_OVERDUE, Channel

if TYPE_CHECKING:
    from collections.abc import Callable


class Hub:
    """kombu's event loop with a clock that a test moves."""

    def __init__(self) -> None:
        self.now = 0.0
        self._timers: list[tuple[float, int, Any]] = []
        self._numbers = count()

    def call_later(self, seconds: float, call: Callable[..., None], *args: Any) -> Any:
        timer = SimpleNamespace(call=call, args=args, cancelled=False)
        timer.cancel = lambda: setattr(timer, "cancelled", True)
        heapq.heappush(self._timers, (self.now + seconds, next(self._numbers), timer))
        return timer

    def call_soon(self, call: Callable[..., None], *args: Any) -> None:
        self.call_later(0.0, call, *args)

    @property
    def waiting(self) -> int:
        return sum(not timer.cancelled for _, _, timer in self._timers)

    def run(self, seconds: float) -> None:
        until = self.now + seconds
        while self._timers and self._timers[0][0] <= until:
            self.now, _, timer = heapq.heappop(self._timers)
            if not timer.cancelled:
                timer.call(*timer.args)
        self.now = until


class Polls(Channel):
    """A channel on such a hub, never connected; `outcome` is what comes of a poll."""

    hub: Any = None  # a property there
    qos: Any = SimpleNamespace(can_consume=lambda: True, can_consume_max_estimate=lambda: 1)

    def __init__(self, outcome: Callable[[Any], None]) -> None:
        self.hub = Hub()
        self.polls: list[float] = []
        self.outcome = outcome
        self.connection = SimpleNamespace(polling_interval=0.05, _callbacks={})
        self._active_queues = ["q"]
        self.prepare_polls()

    def __del__(self) -> None: ...

    def _new_queue(self, queue: str, **_: Any) -> str:
        return f"http://sqs/{queue}"

    def canonical_queue_name(self, queue: str) -> str:
        return queue

    def asynsqs(self, queue: str | None = None) -> None: ...

    def _get_from_sqs(self, *, callback: Any, **_: Any) -> Any:
        self.polls.append(self.hub.now)
        self.outcome(callback)
        return callback


def refuse(_: Any) -> None:
    raise RuntimeError("no credentials")


def fail(poll: Any) -> None:
    poll.throw(RuntimeError("HTTP 403"))


def nothing(_: Any) -> None: ...


def empty(poll: Any) -> None:
    poll({})


@pytest.mark.parametrize("outcome", [refuse, fail, nothing, lambda poll: poll([]), lambda poll: poll({"Messages": 5})])
def test_an_outage_of_an_hour_leaves_one_loop(outcome: Callable[[Any], None]):
    channel = Polls(outcome)
    channel._schedule_queue("q")
    channel.hub.run(3600)
    assert channel.hub.waiting == 1
    longest = LONGEST_PAUSE + (POLL_OVERDUE if outcome is nothing else 0)
    assert len(channel.polls) <= 3600 / longest + 10
    gaps = [after - before for before, after in zip(channel.polls, channel.polls[1:], strict=False)]
    assert max(gaps) <= longest + 0.1
    channel.outcome = empty
    before = len(channel.polls)
    channel.hub.run(longest + 60)
    assert channel.hub.waiting == 1
    assert len(channel.polls) - before <= (longest + 60) / 0.05 + 1


def test_a_poll_that_was_given_up_does_nothing_when_it_comes_after_all():
    late: list[Any] = []
    channel = Polls(late.append)
    channel._schedule_queue("q")
    channel.hub.run(POLL_OVERDUE + 2)
    assert len(channel.polls) == 2
    waiting = channel.hub.waiting
    late[0]({"Messages": [{}]})
    late[0].throw(RuntimeError("late"))
    assert channel.hub.waiting == waiting
