"""What goes wrong and when: a function of the seed alone, so that a run can be repeated.

Two parts. The timetable has what happens to processes, the broker, the ledger's file and the clock, as primitive steps at
seconds since the start of the run. The dice say, for the n-th request that passes a proxy, what happens to it.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

WORKERS = ("worker1", "worker2")
BEATS = ("beat1", "beat2")
PROCESSES = (*WORKERS, *BEATS, "intake")
#: Mean seconds between two faults of the timetable: at first, and once each kind was there. Redrive is to get work done, too.
_FIRST_PACE, _PACE = 1.6, 4.0
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


#: How often each fault is drawn.
WEIGHTS: Mapping[str, int] = {
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
    "ledger_locked": 7,
    "killed_while_locked": 5,
    "disk_full": 4,
    "clock_moved": 5,
    "deploy": 4,
}


def timetable(seed: int, seconds: float) -> list[Step]:
    """Return the steps in their order. Each fault is drawn from a shuffled deck, so that a short run has many kinds."""
    rng = random.Random(f"{seed}/timetable")
    steps: list[Step] = []
    free_at = dict.fromkeys((*PROCESSES, "broker", "api", "ledger", "clock"), 0.0)
    at = 1.0
    for drawn, fault in enumerate(_deck(rng), 1):
        if at >= seconds:
            break
        steps += _steps(fault, at, rng, free_at)
        at += rng.uniform(0.3, 2 * (_FIRST_PACE if drawn <= len(WEIGHTS) else _PACE) - 0.3)
    return sorted(step for step in steps if step.at < seconds)


def _deck(rng: random.Random) -> Iterator[str]:
    """Yield all kinds once at first, in an order of the seed's; then by their weights."""
    first = list(WEIGHTS)
    rng.shuffle(first)
    yield from first
    while True:
        yield from rng.choices(list(WEIGHTS), list(WEIGHTS.values()))


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
    "kill_intake": ("intake",),
    "pause_intake": ("intake",),
}
#: What a fault needs to itself, where that is not its process.
_HELD: Mapping[str, tuple[str, ...]] = {
    "killed_while_locked": ("ledger", "intake"),
    "ledger_locked": ("ledger",),
    "disk_full": ("ledger",),
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
            Step(at + 1.5, "kill", "intake"),
            Step(at + 3.5, "start", "intake"),
        ],
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
