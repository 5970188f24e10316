"""What every source promises, each on its real transport: nothing lost, nothing doubled, nothing skipped."""

from __future__ import annotations

import random
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import count
from typing import TYPE_CHECKING

import pytest
from doubles.memory_source import MemorySource
from ledger_bench import EMPLOYEES, SQLITE, Bench, WakeupRecorder, open_bench
from sources_file import File
from sources_harness import Fifo, Memory, Sqs, SqsServer, employee
from sources_kafka import Pool
from sqlalchemy import event
from sqlalchemy.exc import OperationalError
from waiting import until

from tasks.adapters.jsonl import LineReader
from tasks.dlq.calls.route import Route
from tasks.dlq.errors import LedgerUnavailable, OutOfReach
from tasks.dlq.ledger.dead_letters import Recorded
from tasks.dlq.parameters import Integer
from tasks.dlq.reading.mapping import BodyMapping
from tasks.dlq.reading.reader import BodyReader, RouteChoice, SubmissionReader
from tasks.dlq.services.intake import Intake

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from sources_harness import Harness

    from tasks.devstack.sqs import EmbeddedSqs
    from tasks.dlq.dead_letter import DeadLetter
    from tasks.dlq.ledger import Ledger
    from tasks.dlq.ports import Record, Source

ROUTE = Route(name="employees", url=EMPLOYEES.url, params={"employeeId": Integer(positive=True)})
READER = BodyReader(
    choices=[RouteChoice(route=ROUTE, mapping=BodyMapping(params={"employeeId": "employeeId"}))], max_body=1 << 20
)
LINES = LineReader(SubmissionReader(routes={"employees": ROUTE}))
#: More than two batches of any source.
LETTERS = [employee(number % 7 + 1) for number in range(25)]
#: Seconds that a receive may take for a record that is surely there.
PATIENCE = 20.0
KINDS = ("memory", "file", "sqs", "sqs-fifo", "kafka")


@pytest.fixture(scope="module")
def pool(request: pytest.FixtureRequest) -> Iterator[Pool]:
    wanted = [each for each in request.session.items if each.module is request.module and "[kafka]" in each.name]
    stoppable = sum("down" in each.name for each in wanted)
    made = Pool(len(wanted) - stoppable, stoppable)
    yield made
    made.close()


@pytest.fixture(scope="module")
def server(sqs: EmbeddedSqs) -> Iterator[SqsServer]:
    made = SqsServer(sqs)
    yield made
    made.close()


@pytest.fixture(params=KINDS)
def harness(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Harness]:
    match request.param:
        case "memory":
            made: Harness = Memory()
        case "file":
            made = File(tmp_path, monkeypatch)
        case "sqs":
            made = Sqs(request.getfixturevalue("server"), monkeypatch)
        case "sqs-fifo":
            made = Fifo(request.getfixturevalue("server"), monkeypatch)
        case "kafka":
            kafka = request.getfixturevalue("pool").take(stoppable="down" in request.node.name)
            kafka.hurry(monkeypatch)
            made = kafka
    yield made
    made.close()


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    yield from open_bench(SQLITE, tmp_path)


class Process:
    """One process of Redrive's: it checks that nothing is acknowledged that is not in the ledger."""

    def __init__(self, bench: Bench, source: Source) -> None:
        self.name = source.name
        self.source = source
        self.ledger: Ledger = bench.connect()
        self.intake = Intake(self.ledger, {"employees": ROUTE}, WakeupRecorder())
        self.batches: list[Sequence[Record]] = []
        self.acknowledged: list[str] = []
        self.before_reading: Callable[[], object] = lambda: None
        self._bench = bench

    def receive(self, *, wait: float) -> Sequence[Record]:
        records = self.source.receive(wait=wait)
        if records:
            self.batches.append(records)
        return records

    def acknowledge(self, records: Sequence[Record]) -> None:
        identities = [each.identity for each in records]
        assert {*identities} <= {row["identity"] for row in self._bench.rows("dead_letters")}, "acknowledged before the commit"
        self.source.acknowledge(records)
        self.acknowledged += identities

    def give_back(self, records: Sequence[Record]) -> None:
        self.source.give_back(records)

    def read(self, source: str, record: Record) -> DeadLetter:
        self.before_reading()
        return (LINES if "line" in record.origin else READER).read(source, record)

    def drain(self, *, wait: float = 0.0, stop: Callable[[], bool] = lambda: False) -> Recorded:
        return self.intake.drain(self, self, seconds=float("inf"), wait=wait, stop=stop)

    def drain_all(self, letters: int) -> Recorded:
        """Drain until the ledger has so many letters, whatever goes away meanwhile."""
        total = Recorded()

        def enough() -> bool:
            nonlocal total
            try:
                total += self.drain()
            except OutOfReach:
                return False
            return len(self._bench.rows("dead_letters")) >= letters

        until(enough, what=f"{letters} letters")
        return total

    def first_batch(self) -> Sequence[Record]:
        """Return one batch of those that are surely there."""
        return until(lambda: self.receive(wait=PATIENCE), what="the first batch")


@pytest.fixture
def start(bench: Bench, harness: Harness) -> Iterator[Callable[[], Process]]:
    started: list[Process] = []

    def begin() -> Process:
        started.append(Process(bench, harness.open()))
        return started[-1]

    yield begin
    for each in started:
        each.ledger.close()


@contextmanager
def failing_commits(ledger: Ledger) -> Iterator[None]:
    """Have every commit of this process fail, after all its work was done."""

    def fail(_connection: object) -> None:
        raise OperationalError("COMMIT", None, sqlite3.OperationalError("disk I/O error"))

    event.listen(ledger.engine, "commit", fail)
    yield
    event.remove(ledger.engine, "commit", fail)


def needs(bench: Bench) -> int:
    """Return how many needs were attached to jobs: one more than there are letters would be a call too many."""
    return sum(row["last_seq"] for row in bench.rows("jobs"))


# --- the plain way ---------------------------------------------------------------------------------------------------


def test_all_is_taken_in_batches_and_acknowledged(harness: Harness, bench: Bench, start: Callable[[], Process]):
    harness.produce(LETTERS)
    process = start()

    taken = process.drain_all(25)

    assert (taken.accepted, taken.known, taken.rejected) == (25, 0, 0)
    assert len(process.batches) >= 3
    assert max(map(len, process.batches)) <= harness.batch
    assert len({*process.acknowledged}) == 25
    assert harness.left() == 0
    again = process.drain()
    assert (again.accepted, again.known) == (0, 0 if harness.remembers else 25)
    assert bench.sums() == {"accepted": 25, "pending": 25}


def test_poison_is_rejected_among_its_neighbours(harness: Harness, bench: Bench, start: Callable[[], Process]):
    bodies = [body for each in harness.poison.values() for body in (employee(1), each)]
    harness.produce([*bodies, employee(2)])

    taken = start().drain_all(len(bodies) + 1)

    assert (taken.accepted, taken.rejected) == (len(bodies) + 1, len(harness.poison))
    rejected = {row["reject_reason"]: bytes(row["body"]) for row in bench.rows("dead_letters") if row["reject_reason"]}
    assert rejected == harness.poison
    assert harness.left() == 0
    assert needs(bench) == len(harness.poison) + 1


def test_the_sums_do_not_depend_on_the_order(harness: Harness, bench: Bench, start: Callable[[], Process]):
    bodies = [*LETTERS, *harness.poison.values(), *LETTERS]
    random.Random(7).shuffle(bodies)
    process = start()

    harness.produce(bodies[:11])
    process.drain_all(11)
    harness.produce(bodies[11:])
    process.drain_all(len(bodies))

    rejected = len(harness.poison)
    assert harness.left() == 0
    assert bench.audit().as_dict()["sources"]["letters"]["lost"] == 0
    assert bench.sums() == {"accepted": 50 + rejected, "pending": 50, "rejected": rejected}
    assert sorted(row["last_seq"] for row in bench.rows("jobs")) == [6, 6, 6, 8, 8, 8, 8]


# --- redelivery ------------------------------------------------------------------------------------------------------


def test_a_commit_that_fails_acknowledges_nothing_and_all_comes_again(
    harness: Harness, bench: Bench, start: Callable[[], Process]
):
    harness.produce(LETTERS)
    process = start()

    with failing_commits(process.ledger):
        for _ in range(2):
            with pytest.raises(LedgerUnavailable):
                process.drain(wait=PATIENCE)
    assert bench.rows("dead_letters") == []
    assert (process.acknowledged, harness.left()) == ([], 25)

    assert process.drain_all(25).accepted == 25
    assert harness.left() == 0
    assert needs(bench) == 25
    assert bench.sums() == {"accepted": 25, "pending": 25}


def test_a_crash_between_commit_and_acknowledgement_doubles_nothing(harness: Harness, bench: Bench, start: Callable[[], Process]):
    harness.produce(LETTERS)
    first = start()
    records = first.first_batch()
    kept = first.intake.take(first.name, first, records)
    harness.crash(first.source, records)

    taken = start().drain_all(25)

    assert kept.accepted == len(records)
    assert (taken.accepted, taken.known) == (25 - len(records), len(records))
    assert harness.left() == 0
    assert needs(bench) == 25


def test_what_is_given_back_comes_again_and_what_was_kept_does_not(harness: Harness, bench: Bench, start: Callable[[], Process]):
    harness.produce(LETTERS)
    process = start()
    process.give_back(process.first_batch())
    records = process.first_batch()
    half = len(records) // 2
    process.intake.take(process.name, process, records[:half])
    process.acknowledge(records[:half])
    process.give_back(records[half:])

    taken = process.drain_all(25)

    assert (taken.accepted, taken.known) == (25 - half, 0)
    assert harness.left() == 0
    assert needs(bench) == 25


def test_a_stop_ends_after_the_batch_in_hand_and_leaves_the_rest(harness: Harness, bench: Bench, start: Callable[[], Process]):
    harness.produce(LETTERS)
    first = start()

    taken = first.drain(wait=PATIENCE, stop=lambda: bool(first.acknowledged))

    assert 0 < taken.accepted <= harness.batch
    assert harness.left() == 25 - taken.accepted
    harness.crash(first.source, [])
    rest = start().drain_all(25)
    assert (rest.accepted, rest.known) == (25 - taken.accepted, 0 if harness.remembers else taken.accepted)
    assert bench.sums() == {"accepted": 25, "pending": 25}


def test_whoever_waits_for_the_source_in_memory_is_told_of_a_record_and_of_an_outage():
    source = MemorySource("letters")
    with ThreadPoolExecutor(1) as threads:
        waiting = threads.submit(source.receive, wait=600)
        source.put(b"{}", origin={"topic": "employees"})
        (record,) = waiting.result(PATIENCE)
        assert (record.body, record.origin) == (b"{}", {"topic": "employees"})
        waiting = threads.submit(source.receive, wait=600)
        source.go_down()
        with pytest.raises(OutOfReach):
            waiting.result(PATIENCE)


# --- what goes away --------------------------------------------------------------------------------------------------


def test_a_source_that_is_down_at_the_start_is_waited_for(harness: Harness, bench: Bench, start: Callable[[], Process]):
    harness.produce(LETTERS)
    harness.go_down()
    process = start()
    for _ in range(2):
        with pytest.raises(OutOfReach) as caught:
            process.drain(wait=PATIENCE)
        assert caught.value.message
        assert caught.value.hint
    assert bench.rows("dead_letters") == []

    harness.come_up()

    assert process.drain_all(25).accepted == 25
    assert harness.left() == 0
    assert needs(bench) == 25


def test_a_source_that_goes_down_in_the_middle_loses_and_skips_nothing(
    harness: Harness, bench: Bench, start: Callable[[], Process]
):
    harness.produce(LETTERS)
    process = start()
    read = count(1)

    def go_down() -> None:
        if next(read) == harness.batch + 1:  # in the second batch, or a later one: received, and not yet acknowledged
            harness.go_down()

    process.before_reading = go_down
    for _ in range(2):
        with pytest.raises(OutOfReach):
            process.drain(wait=PATIENCE)
    kept = len(bench.rows("dead_letters"))
    assert kept >= len(process.acknowledged) > 0

    harness.come_up()
    harness.expire([each for batch in process.batches for each in batch if each.identity not in process.acknowledged])

    assert process.drain_all(25).accepted == 25 - kept
    until(lambda: process.drain_all(25) and harness.left() == 0, what="the acknowledgement that was made up for")
    assert needs(bench) == 25
    assert bench.sums() == {"accepted": 25, "pending": 25}
