"""Continuous intake over sources and a ledger that fail as a test tells them."""

from __future__ import annotations

import signal
import threading
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import structlog.testing
from waiting import TEST_TIMEOUT

from tasks import continuous_intake
from tasks.continuous_intake import SourceThread, drain_continuously
from tasks.dlq.errors import BrokerUnavailable, LedgerOutdated, LedgerUnavailable
from tasks.dlq.ledger.dead_letters import Recorded
from tasks.dlq.ports import Record
from tasks.dlq.services.intake import Intake

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence


class Queue:
    """A source whose polls return or raise what a test put there; then a long poll lasts until the test ends."""

    name = "queue"

    def __init__(self, *polls: list[Record] | Exception) -> None:
        self.polls = list(polls)
        self.waits: list[float] = []
        self.acknowledged: list[str] = []
        self.given_back: list[str] = []
        self.polled_out = threading.Event()
        self.release = threading.Event()

    def receive(self, *, wait: float) -> list[Record]:
        self.waits.append(wait)
        if not self.polls:
            self.polled_out.set()
            self.release.wait(TEST_TIMEOUT)
            return []
        poll = self.polls.pop(0)
        if isinstance(poll, Exception):
            raise poll
        return poll

    def acknowledge(self, records: Sequence[Record]) -> None:
        self.acknowledged += [record.identity for record in records]

    def give_back(self, records: Sequence[Record]) -> None:
        self.given_back += [record.identity for record in records]


class FakeIntake(Intake):
    """The real drain, over a take that only remembers. `troubles` are raised by the next ones."""

    def __init__(self, troubles: Sequence[Exception] = ()) -> None:
        super().__init__(Any, {}, Any)
        self.troubles = list(troubles)
        self.taken: list[str] = []

    def take(self, source: str, reader: Any, records: Sequence[Record]) -> Recorded:  # noqa: ARG002 - as the real one
        if self.troubles:
            raise self.troubles.pop(0)
        self.taken += [record.identity for record in records]
        return Recorded(accepted=len(records))


class FakeRuntime:
    """`refusals` are raised by the next preparations, in this order."""

    def __init__(
        self, queue: Queue, *, troubles: Sequence[Exception] = (), refusals: Sequence[tuple[str, Exception]] = ()
    ) -> None:
        self.intake = FakeIntake(troubles)
        self.settings = SimpleNamespace(worker=SimpleNamespace(slice=0.1))
        self.sources = [(queue, None)]
        self.prepared: list[str] = []
        self.all_prepared = threading.Event()  # set when something is prepared and no refusal is left
        self._refusals = list(refusals)

    def ensure_ledger(self) -> None:
        self._prepare("ledger")

    def ensure_queues(self) -> None:
        self._prepare("queues")

    def _prepare(self, what: str) -> None:
        self.prepared.append(what)
        if self._refusals and self._refusals[0][0] == what:
            raise self._refusals.pop(0)[1]
        if not self._refusals:
            self.all_prepared.set()


def batch(*names: str) -> list[Record]:
    return [Record(identity=name, body=b"{}") for name in names]


class Threads:
    """SourceThreads of one test, ended with it."""

    def __init__(self) -> None:
        self.ended = threading.Event()
        self.queues: list[Queue] = []

    def start(self, queue: Queue, runtime: Any) -> SourceThread:
        self.queues.append(queue)
        follower = SourceThread(runtime, queue, Any, self.ended)
        follower.start()
        return follower


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(continuous_intake, "_FIRST_PAUSE", 0.001)
    monkeypatch.setattr(continuous_intake, "_LONGEST_PAUSE", 0.002)


@pytest.fixture
def threads() -> Iterator[Threads]:
    threads = Threads()
    yield threads
    threads.ended.set()
    for queue in threads.queues:
        queue.release.set()


def test_it_drains_batch_after_batch_and_acknowledges_what_is_kept(threads: Threads):
    queue = Queue(batch("a", "b"), batch("c"), [], batch("d"), [])
    runtime = FakeRuntime(queue)
    threads.start(queue, runtime)
    assert queue.polled_out.wait(TEST_TIMEOUT)
    assert runtime.intake.taken == queue.acknowledged == ["a", "b", "c", "d"]
    assert queue.waits == [20.0, 1.0, 1.0, 20.0, 1.0, 20.0], "a long poll for the first, a short one for what follows"


def test_a_source_that_is_away_is_asked_again(threads: Threads):
    away = BrokerUnavailable("SQS does not answer", hint="check broker.url")
    queue = Queue(away, away, batch("a"), [])
    with structlog.testing.capture_logs() as logs:
        threads.start(queue, FakeRuntime(queue))
        assert queue.polled_out.wait(TEST_TIMEOUT)
    assert queue.acknowledged == ["a"]
    assert [entry["event"] for entry in logs] == ["source_unavailable", "source_unavailable", "source_recovered", "records_taken"]
    assert logs[0]["hint"] == "check broker.url"


def test_what_the_ledger_could_not_keep_is_given_back_and_nothing_received_until_it_can(threads: Threads):
    queue = Queue(batch("a"), batch("a"), [])
    runtime = FakeRuntime(queue, troubles=[LedgerUnavailable("disk full")] * 3)
    with structlog.testing.capture_logs() as logs:
        threads.start(queue, runtime)
        assert queue.polled_out.wait(TEST_TIMEOUT)
    assert [entry["event"] for entry in logs].count("source_unavailable") == 3
    assert queue.given_back == ["a"]
    assert queue.acknowledged == ["a"], "once: after the second delivery"
    assert queue.waits == [20.0, 20.0, 1.0, 20.0], "one delivery, however long the ledger is full"


def test_a_fault_in_one_source_ends_the_process_instead_of_silence(threads: Threads):
    queue = Queue(ZeroDivisionError("a fault"))
    follower = threads.start(queue, FakeRuntime(queue))
    assert threads.ended.wait(TEST_TIMEOUT)
    assert follower.idle.wait(TEST_TIMEOUT)
    assert follower.crashed


def test_a_batch_in_hand_is_finished_before_the_end(threads: Threads):
    taking, go_on = threading.Event(), threading.Event()

    class Slow(FakeIntake):
        def take(self, source: str, reader: Any, records: Sequence[Record]) -> Recorded:
            taking.set()
            assert go_on.wait(TEST_TIMEOUT)
            return super().take(source, reader, records)

    queue = Queue(batch("a"), batch("b"))
    runtime = FakeRuntime(queue)
    runtime.intake = Slow()
    follower = threads.start(queue, runtime)
    assert taking.wait(TEST_TIMEOUT)
    threads.ended.set()
    assert not follower.idle.is_set(), "it does not wait for SQS: the process must not end now"
    go_on.set()
    assert follower.idle.wait(TEST_TIMEOUT)
    assert queue.acknowledged == ["a"], "and no other batch is begun"


def test_a_long_poll_is_not_waited_for(threads: Threads):
    queue = Queue()
    follower = threads.start(queue, FakeRuntime(queue))
    assert queue.polled_out.wait(TEST_TIMEOUT)
    assert follower.idle.is_set()


@pytest.fixture
def signals(monkeypatch: pytest.MonkeyPatch) -> dict[int, Callable[[int, object], None]]:
    """The handlers that were set; none is set for real."""
    handlers: dict[int, Any] = {}
    monkeypatch.setattr(continuous_intake.signal, "signal", lambda number, handler: handlers.update({number: handler}))
    return handlers


def test_missing_queues_are_made_when_sqs_is_back_and_hold_up_no_source(signals: dict[int, Callable[[int, object], None]]):
    queue = Queue(batch("a"), [])
    away = BrokerUnavailable("SQS does not answer")
    runtime = FakeRuntime(queue, refusals=[("ledger", LedgerUnavailable("away")), ("queues", away), ("queues", away)])

    def terminate() -> None:
        queue.polled_out.wait(TEST_TIMEOUT)
        runtime.all_prepared.wait(TEST_TIMEOUT)
        signals[signal.SIGTERM](signal.SIGTERM, None)

    threading.Thread(target=terminate, daemon=True).start()
    assert drain_continuously(runtime) is True
    queue.release.set()
    assert queue.acknowledged == ["a"]
    assert runtime.prepared == ["ledger", "ledger", "queues", "queues", "queues"]


def test_an_end_before_the_ledger_is_there_is_a_clean_end(signals: dict[int, Callable[[int, object], None]]):
    queue = Queue()
    runtime = FakeRuntime(queue)

    def refuse() -> None:
        signals[signal.SIGINT](signal.SIGINT, None)
        raise LedgerUnavailable("away")

    runtime.ensure_ledger = refuse
    assert drain_continuously(runtime) is True
    assert queue.waits == [], "nothing was begun"


@pytest.mark.usefixtures("signals")
def test_an_older_ledger_is_a_persons_decision():
    with pytest.raises(LedgerOutdated):
        drain_continuously(
            FakeRuntime(Queue(ZeroDivisionError("nothing may be begun")), refusals=[("ledger", LedgerOutdated("old"))])
        )


@pytest.mark.usefixtures("signals")
def test_a_fault_is_told_to_the_caller():
    assert drain_continuously(FakeRuntime(Queue(ZeroDivisionError("a fault")))) is False
