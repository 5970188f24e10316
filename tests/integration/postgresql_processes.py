"""What processes do that share a ledger: intakes and workers by the services' own code, each with a diary of its calls."""

from __future__ import annotations

import json
import random
import time
from contextlib import suppress
from dataclasses import dataclass
from itertools import count
from threading import BrokenBarrierError
from typing import TYPE_CHECKING

from ledger_bench import WakeupRecorder, a_letter, count_unsettled
from waiting import TEST_TIMEOUT

from tasks.dlq.calls.api import Answer, SyncRequest, SyncResult
from tasks.dlq.calls.retry import RetryPolicy
from tasks.dlq.calls.route import Route
from tasks.dlq.ledger import Ledger
from tasks.dlq.ports import Record
from tasks.dlq.services.intake import Intake
from tasks.dlq.services.maintenance import Maintenance
from tasks.dlq.services.recovery import Recovery

if TYPE_CHECKING:
    from multiprocessing.synchronize import Barrier, Event
    from pathlib import Path

    from tasks.dlq.dead_letter import DeadLetter

KEYS = [f'{{"employeeId":"{number}"}}' for number in range(1, 13)]
#: Letters in a batch.
LETTERS = 3


def a_route(limit: int) -> Route:
    retry = RetryPolicy(max_attempts=1000, base=0.001, cap=0.002)
    return Route(name="employees", url="http://127.0.0.1:1/{employeeId}", delay=0.0, drain=0.0, max_in_flight=limit, retry=retry)


@dataclass(frozen=True)
class Call:
    """A call as its worker saw it; times are seconds by the one monotonic clock of all processes here."""

    key: str
    begin: float
    end: float
    success: bool


class Diary:
    """An API that takes a moment, answers as the dice fall, and writes down when each call began and ended."""

    def __init__(self, file: Path, seed: int, meet: Barrier | None) -> None:
        self._file = file
        self._random = random.Random(seed)
        self._meet = meet

    def call(self, request: SyncRequest) -> SyncResult:
        begin = time.monotonic()
        if self._meet:  # the first call lasts until another's is open, too
            with suppress(BrokenBarrierError):
                self._meet.wait(TEST_TIMEOUT / 4)
            self._meet = None
        time.sleep(0.005)  # the API's work
        status = self._random.choice([200, 200, 409])
        entry = [json.dumps(dict(request.parameters), separators=(",", ":")), begin, time.monotonic(), status == 200]
        with self._file.open("a") as diary:
            diary.write(json.dumps(entry) + "\n")
        return SyncResult(answer=Answer.ANSWERED, status=status, detail=f"HTTP {status}")


def read_diary(file: Path) -> list[Call]:
    return [Call(*json.loads(line)) for line in file.read_text().splitlines()] if file.exists() else []


class Letters:
    """A reader for which a record's body is its keys, and its identity its own."""

    def read(self, source: str, record: Record) -> DeadLetter:
        return a_letter(*json.loads(record.body), identity=record.identity, source=source, body=record.body)


@dataclass(frozen=True)
class Shared:
    """What the processes share: a ledger and its limit, when all begin, where two calls meet, and that all letters are in."""

    url: str
    limit: int
    start: Barrier
    meet: Barrier
    all_in: Event


def take_in(shared: Shared, name: str, batches: int, seed: int) -> None:
    """Take in batches of letters, each about two keys of all, in any order."""
    ledger, dice = Ledger(shared.url), random.Random(seed)
    intake = Intake(ledger, {"employees": a_route(shared.limit)}, WakeupRecorder())
    numbers = count(1)
    shared.start.wait(TEST_TIMEOUT)
    for _ in range(batches):
        bodies = [json.dumps(dice.sample(KEYS, 2)).encode() for _ in range(LETTERS)]
        intake.take(name, Letters(), [Record(identity=f"{name}-{next(numbers)}", body=body) for body in bodies])
    ledger.close()


def work(shared: Shared, name: str, diary: Path, seed: int) -> None:
    """Run slices and sweeps until all letters are in and nothing is left to do."""
    ledger, route = Ledger(shared.url), a_route(shared.limit)
    routes = {"employees": route}
    meets = shared.limit > 1 and seed < shared.meet.parties
    api = Diary(diary, seed, shared.meet if meets else None)
    recovery = Recovery(ledger, routes, api, WakeupRecorder(), slice_seconds=0.5, worker=name)
    sweeps = Maintenance(ledger, routes, WakeupRecorder())
    shared.start.wait(TEST_TIMEOUT)
    while not (shared.all_in.is_set() and not ledger.transact(count_unsettled)):
        if not recovery.run_slice(1).calls:  # any job's wake-up is its route's
            sweeps.rescue()
            sweeps.promote()
            time.sleep(0.02)  # nothing is due, or no slot is free
    ledger.close()
