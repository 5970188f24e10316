"""What goes wrong and when: a function of the seed alone, so that a run can be repeated.

Two parts. The timetable has what happens to processes, the broker, the ledger's file and the clock, as primitive steps at
seconds since the start of the run. The dice say, for the n-th request that passes a proxy, what happens to it.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

WORKERS = ("worker1", "worker2")
BEATS = ("beat1", "beat2")
INTAKES = ("intake1", "intake2")
PROCESSES = (*WORKERS, *BEATS, *INTAKES)
LEDGERS = ("sqlite", "postgresql")
ROUTES = ("employees", "orders", "stock")
#: Mean seconds between two faults of the timetable: at first, and once each kind was there. Redrive is to get work done, too.
_FIRST_PACE, _PACE = 1.6, 4.0
#: Faults that wait until what they are done to is free for them. More are forgotten.
_MOST_WAITING = 6
#: A lease lasts 13 s on the torture's routes: some pauses outlast it.
_PAUSES = (0.2, 0.2, 0.2, 0.5, 0.5, 0.5, 1.0, 1.0, 1.0, 2.0, 4.0, 15.0)
#: A ledger's transaction waits 15 s for a lock: one in a while gives up.
_LOCKS = (0.2, 0.2, 0.3, 0.3, 0.5, 0.5, 0.5, 1.0, 1.0, 1.0, 2.0, 2.0, 4.0, 17.0)


@dataclass(frozen=True, order=True)
class Step:
    """One primitive step. `target` is a process, where the action is done to one; `fault` is counted when it is not empty."""

    at: float
    action: str
    target: str = ""
    value: float = 0.0
    fault: str = ""


#: How often each fault is drawn, whatever the ledger.
_WEIGHTS: Mapping[str, int] = {
    "kill_child": 6,
    "kill_main": 4,
    "pause_child": 8,
    "pause_main": 5,
    "kill_beat": 3,
    "pause_beat": 3,
    "kill_intake": 5,
    "pause_intake": 4,
    "broker_wiped": 1,
    "broker_cut": 3,
    "api_cut": 3,
    "kafka_cut": 3,
    "kafka_stalled": 3,
    "ledger_locked": 7,
    "killed_while_locked": 5,
    "clock_moved": 5,
    "deploy": 4,
    "op_pause": 4,
    "op_replay": 6,
    "op_discard": 6,
}
_OF_LEDGERS: Mapping[str, Mapping[str, int]] = {
    "sqlite": {"disk_full": 4},
    "postgresql": {"ledger_cut": 3, "ledger_terminated": 4, "ledger_stopped": 2, "ledger_killed": 2},
}


def weights(ledger: str) -> Mapping[str, int]:
    """Return how often each fault is drawn where this is the ledger."""
    return {**_WEIGHTS, **_OF_LEDGERS[ledger]}


def timetable(
    seed: int, seconds: float, ledger: str = "sqlite", *, only: Sequence[str] | None = None, pace: int = 1
) -> list[Step]:
    """Return the steps in their order. Each fault is drawn from a shuffled deck, so that a short run has many kinds.

    With `only` no others are drawn; with none at all there are no steps. On a machine that is so many times slower as `pace` says
    the faults come as much later one after the other: what is killed every few seconds, and takes longer to start, does nothing.
    """
    rng = random.Random(f"{seed}/{ledger}/timetable")
    drawn_by = {fault: weight for fault, weight in weights(ledger).items() if only is None or fault in only}
    if not drawn_by:
        return []
    steps: list[Step] = []
    free_at = dict.fromkeys((*PROCESSES, *ROUTES, "broker", "api", "kafka", "ledger", "clock", "jobs"), 0.0)
    at = 1.0
    waiting: list[str] = []  # for what they are to be done to
    for drawn, fault in enumerate(_deck(rng, drawn_by), 1):
        if at >= seconds:
            break
        waiting.append(fault)
        for one in waiting:
            if found := _steps(one, at, rng, free_at):
                steps += found
                waiting.remove(one)
                break
        del waiting[_MOST_WAITING:]
        at += pace * rng.uniform(0.3, 2 * (_FIRST_PACE if drawn <= len(drawn_by) else _PACE) - 0.3)
    return sorted(step for step in steps if step.at < seconds)


def _deck(rng: random.Random, drawn_by: Mapping[str, int]) -> Iterator[str]:
    """Yield all kinds once at first, in an order of the seed's; then by their weights."""
    first = list(drawn_by)
    rng.shuffle(first)
    yield from first
    while True:
        yield from rng.choices(list(drawn_by), list(drawn_by.values()))


def _steps(fault: str, at: float, rng: random.Random, free_at: dict[str, float]) -> list[Step]:
    """Return one fault's steps; none when what it is done to is not in a state for it."""
    target = rng.choice(_TARGETS.get(fault, ("",)))
    found = _drawn(fault, at, target, rng)
    needs = _HELD.get(fault, (target,))
    if any(free_at[name] > at for name in needs):
        return []
    for name in needs:
        # A process that was started gets time to be there: one that is killed at each start does nothing that could go wrong.
        free_at[name] = max(step.at for step in found) + (4.0 if any(step.action == "start" for step in found) else 0.5)
    return found


#: The processes that a fault may be done to.
_TARGETS = {
    "kill_child": WORKERS,
    "pause_child": WORKERS,
    "kill_main": WORKERS,
    "pause_main": WORKERS,
    "deploy": WORKERS,
    "kill_beat": BEATS,
    "pause_beat": BEATS,
    "kill_intake": INTAKES,
    "pause_intake": INTAKES,
    "killed_while_locked": INTAKES,
    "op_pause": ROUTES,
}
#: What a fault needs to itself, where that is not its process.
_HELD: Mapping[str, tuple[str, ...]] = {
    "killed_while_locked": ("ledger", *INTAKES),
    **dict.fromkeys(("ledger_locked", "disk_full"), ("ledger",)),
    **dict.fromkeys(("ledger_cut", "ledger_terminated", "ledger_stopped", "ledger_killed"), ("ledger",)),
    **dict.fromkeys(("kafka_cut", "kafka_stalled"), ("kafka",)),
    **dict.fromkeys(("op_replay", "op_discard"), ("jobs",)),
    "broker_wiped": ("broker",),
    "broker_cut": ("broker",),
    "api_cut": ("api",),
    "clock_moved": ("clock",),
}


def _drawn(fault: str, at: float, target: str, rng: random.Random) -> list[Step]:
    pause, lock, later = rng.choice(_PAUSES), rng.choice(_LOCKS), rng.uniform(0.2, 2.5)
    hours = rng.choice((1.0, -1.0))
    # What was written before the clock went back would be due in an hour: so it goes on again.
    ahead = [] if hours > 0 else [Step(at + later, "clock", "", -hours)]
    kill_and_start = [Step(at, "kill", target, fault=fault), Step(at + later, "start", target)]
    stop_and_go = [Step(at, "stop_main", target, fault=fault), Step(at + pause, "go", target)]
    return {
        "kill_child": [Step(at, "kill_child", target, rng.random(), fault)],
        "kill_main": kill_and_start,
        "kill_beat": kill_and_start,
        "kill_intake": kill_and_start,
        "pause_child": [Step(at, "stop_child", target, rng.random(), fault), Step(at + pause, "go", target)],
        "pause_main": stop_and_go,
        "pause_beat": stop_and_go,
        "pause_intake": stop_and_go,
        "broker_wiped": [Step(at, "broker_kill", fault=fault), Step(at + later, "broker_start")],
        "broker_cut": [Step(at, "cut", "broker", fault=fault), Step(at + later, "mend", "broker")],
        "api_cut": [Step(at, "cut", "api", fault=fault), Step(at + later, "mend", "api")],
        "ledger_locked": [Step(at, "lock", "", lock, fault), Step(at + lock, "unlocked")],
        # What was handed out and is not in the ledger yet must not be acknowledged.
        "killed_while_locked": [
            Step(at, "lock", "", 3.0, fault),
            Step(at + 1.5, "kill", target),
            Step(at + 3.5, "start", target),
        ],
        "kafka_cut": [Step(at, "cut", "kafka", fault=fault), Step(at + later, "mend", "kafka")],
        "kafka_stalled": [Step(at, "kafka_stall", fault=fault), Step(at + min(pause, 4.0), "kafka_go")],
        "ledger_cut": [Step(at, "cut", "ledger", fault=fault), Step(at + later, "mend", "ledger")],
        "ledger_terminated": [Step(at, "terminate", fault=fault)],
        "ledger_stopped": [Step(at, "ledger_stop", fault=fault), Step(at + later, "ledger_start")],
        "ledger_killed": [Step(at, "ledger_kill", fault=fault), Step(at + later, "ledger_start")],
        # What an operator does is counted when it was done; the share says to which jobs.
        "op_pause": [Step(at, "pause", target), Step(at + 2.0 * later, "resume", target)],
        "op_replay": [Step(at, "replay", "", rng.random())],
        "op_discard": [Step(at, "discard", "", rng.random())],
        "disk_full": [Step(at, "fill", fault=fault), Step(at + 1.0 + later, "free")],
        "clock_moved": [Step(at, "clock", "", hours, fault), *ahead],
        # The new one is up before the old one is told to end.
        "deploy": [Step(at, "deploy", target, fault=fault), Step(at + 8.0, "retire", target)],
    }[fault]


@dataclass(frozen=True, kw_only=True)
class Throw:
    """What happens to one request. `share` is a number from 0 to 1 for whatever has a size."""

    fault: str
    share: float


class Dice:
    """Throws for the requests that pass one place. `odds` are faults with their chances in a hundred; the rest passes."""

    def __init__(self, seed: int, place: str, odds: Mapping[str, float]) -> None:
        self._start = f"{seed}/{place}"
        self._odds = odds
        self.thrown = 0

    def throw(self) -> Throw:
        self.thrown += 1
        rng = random.Random(f"{self._start}/{self.thrown}")
        point = rng.uniform(0, 100)
        for fault, chance in self._odds.items():
            point -= chance
            if point < 0:
                return Throw(fault=fault, share=rng.random())
        return Throw(fault="", share=rng.random())
