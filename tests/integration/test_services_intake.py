"""Intake: a source is acknowledged only after the commit, and workers are woken only after it too."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from ledger_bench import EMPLOYEES, URLS, A, B, Bench, C, WakeupRecorder, employee, open_bench

from tasks.dlq.calls.route import Route
from tasks.dlq.errors import LedgerUnavailable, OutOfReach
from tasks.dlq.ledger.dead_letters import Recorded
from tasks.dlq.parameters import Integer
from tasks.dlq.ports import Record
from tasks.dlq.reading.mapping import BodyMapping
from tasks.dlq.reading.reader import BodyReader, RouteChoice, SubmissionReader, encode_submission
from tasks.dlq.services.intake import Intake

ROUTE = Route(name="employees", url=EMPLOYEES.url, params={"employeeId": Integer(positive=True)}, window=3)
READER = BodyReader(choices=[RouteChoice(route=ROUTE, mapping=BodyMapping(params={"employeeId": "employeeId"}))], max_body=1000)
PAIRS = BodyReader(
    choices=[RouteChoice(route=ROUTE, mapping=BodyMapping(params={"employeeId": "id"}, each="employees[]"))], max_body=1000
)
SUBMISSIONS = SubmissionReader(routes={"employees": ROUTE})


class Queue:
    """A source that redelivers what was not acknowledged, and checks in the ledger what it is told to forget."""

    def __init__(self, bench: Bench, records: Sequence[Record], *, batch: int = 2) -> None:
        self.name = "queue"
        self.waiting = list(records)
        self.acknowledged: list[str] = []
        self._bench = bench
        self._batch = batch
        self.fail_to_acknowledge = False
        self.fail_to_give_back = False
        self.given_back: list[str] = []
        self.polls = 0

    def receive(self, *, wait: float) -> Sequence[Record]:
        assert wait >= 0
        self.polls += 1
        return self.waiting[: self._batch]

    def acknowledge(self, records: Sequence[Record]) -> None:
        kept = {row["identity"] for row in self._bench.rows("dead_letters")}  # by a connection of its own: what is committed
        assert {record.identity for record in records} <= kept
        if self.fail_to_acknowledge:
            raise OutOfReach("the queue does not answer")
        self.acknowledged += [record.identity for record in records]
        self.waiting = [record for record in self.waiting if record not in records]

    def give_back(self, records: Sequence[Record]) -> None:
        if self.fail_to_give_back:
            raise OutOfReach("the queue does not answer")
        self.given_back += [record.identity for record in records]


@pytest.fixture(params=URLS)
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    yield from open_bench(request.param, tmp_path)


@pytest.fixture
def sender() -> WakeupRecorder:
    return WakeupRecorder()


@pytest.fixture
def intake(bench: Bench, sender: WakeupRecorder) -> Iterator[Intake]:
    ledger = bench.connect()
    yield Intake(ledger, {"employees": ROUTE}, sender)
    ledger.close()


def records(*numbers: object) -> list[Record]:
    return [Record(identity=f"m-{place}", body=employee(number)) for place, number in enumerate(numbers)]


def test_a_source_is_drained_in_batches_each_acknowledged_after_its_commit(bench: Bench, intake: Intake):
    queue = Queue(bench, records(1, 2, 1, 3, 1))

    drained = intake.drain(queue, READER, seconds=60)

    assert (drained.accepted, drained.known, len(set(drained.opened))) == (5, 0, 3)
    assert queue.acknowledged == ["m-0", "m-1", "m-2", "m-3", "m-4"]
    assert bench.sums() == {"accepted": 5, "pending": 5}


def test_a_crash_between_commit_and_acknowledgement_doubles_nothing(bench: Bench, intake: Intake):
    queue = Queue(bench, records(1, 2))
    queue.fail_to_acknowledge = True
    with pytest.raises(OutOfReach):
        intake.drain(queue, READER, seconds=60)

    queue.fail_to_acknowledge = False
    again = intake.drain(queue, READER, seconds=60)

    assert (again.accepted, again.known, list(again.opened)) == (0, 2, [])
    assert queue.waiting == []
    assert bench.job(A)["last_seq"] == bench.job(B)["last_seq"] == 1
    assert bench.sums() == {"accepted": 2, "pending": 2}


@pytest.mark.parametrize("reachable", [True, False])
def test_a_ledger_that_does_not_answer_leaves_everything_in_the_source(
    bench: Bench, intake: Intake, monkeypatch: pytest.MonkeyPatch, *, reachable: bool
):
    queue = Queue(bench, records(1, 2))
    queue.fail_to_give_back = not reachable

    def locked(_work: object) -> None:
        raise LedgerUnavailable("the ledger does not answer: database is locked")

    with monkeypatch.context() as patch:
        patch.setattr(intake._ledger, "transact", locked)
        for _ in range(3):
            with pytest.raises(LedgerUnavailable):
                intake.drain(queue, READER, seconds=60)
    assert (len(queue.waiting), queue.acknowledged) == (2, [])
    assert queue.given_back == (["m-0", "m-1"] if reachable else [])
    assert queue.polls == 1, "nothing more is received until the ledger keeps the first"

    again = intake.drain(queue, READER, seconds=60)
    assert (again.accepted, again.known) == (2, 2), "kept as soon as there is room, and known when it is delivered again"
    assert queue.waiting == []
    assert bench.sums() == {"accepted": 2, "pending": 2}


def test_a_drain_ends_when_its_time_is_over_or_it_is_told_to_stop(bench: Bench, intake: Intake):
    times = iter([0.0, 4.0, 11.0])
    queue = Queue(bench, records(1, 2, 3, 1, 2, 3))
    assert intake.drain(queue, READER, seconds=10, monotonic=lambda: next(times)).accepted == 4

    stops = iter([False, True])
    assert intake.drain(queue, READER, seconds=10, stop=lambda: next(stops)).accepted == 2
    assert intake.drain(queue, READER, seconds=10) == Recorded()


def test_a_body_that_cannot_be_read_is_rejected_among_its_neighbours(bench: Bench, intake: Intake):
    hostile = [
        b"not json",
        b'{"employeeId": ' + b"7" * 600 + b"}",
        b'{"employeeId": "\\u0000"}',
        b"[" * 900,
        b"\xff\xfe",
        b"",
        b'{"employeeId": -1}',
        b"x" * 1001,
    ]
    batch = [Record(identity=f"m-{place}", body=body) for place, body in enumerate([employee(1), *hostile, employee(2)])]

    taken = intake.take("queue", READER, batch)

    assert (taken.accepted, taken.rejected, len(taken.opened)) == (10, len(hostile), 2)
    rows = [row for row in bench.rows("dead_letters") if row["reject_reason"]]
    assert [bytes(row["body"]) for row in rows] == hostile
    assert all(row["reject_detail"] for row in rows)
    assert bench.sums() == {"accepted": 10, "pending": 2, "rejected": 8}


def test_a_message_about_several_entities_needs_them_all(bench: Bench, intake: Intake):
    body = b'{"employees": [{"id": 1}, {"id": 3}, {"id": 1}]}'

    intake.take("queue", PAIRS, [Record(identity="m", body=body, stream="orders/0", origin={"offset": 7})])

    assert [bench.job(key)["last_seq"] for key in (A, C)] == [1, 1]
    (row,) = bench.rows("dead_letters")
    assert (row["stream"], row["origin"]) == ("orders/0", '{"offset":7}')


def test_workers_are_woken_after_the_commit_within_the_window(bench: Bench, intake: Intake, sender: WakeupRecorder):
    intake.take("queue", READER, records(1, 2, 3, 4, 5))

    assert [delay for _, delay in sender.sent] == [ROUTE.delay] * ROUTE.window
    waiting = [row["id"] for row in bench.rows("jobs")]
    assert {job_id for job_id, _ in sender.sent} < set(waiting)


def test_needs_that_coalesce_ring_once(intake: Intake, sender: WakeupRecorder):
    intake.take("queue", READER, records(*[1] * 40))

    assert len(sender.sent) == 1


def test_a_broker_that_is_gone_costs_no_letter(bench: Bench, intake: Intake, sender: WakeupRecorder):
    sender.broken = True
    queue = Queue(bench, records(1))

    assert intake.drain(queue, READER, seconds=60).accepted == 1
    assert queue.acknowledged == ["m-0"]
    assert bench.job(A)["wakeup_until"] is None  # what was not rung takes no place in the window


def test_a_submission_names_its_own_route(bench: Bench, intake: Intake):
    intake.take("celery", SUBMISSIONS, [Record(identity="task-1", body=encode_submission("employees", {"employeeId": 1}))])

    assert bench.job(A)["last_seq"] == 1


def test_two_submissions_with_one_id_that_the_producer_chose_are_two(bench: Bench, intake: Intake):
    first, second = (Record(identity="chosen", body=encode_submission("employees", {"employeeId": number})) for number in (1, 2))
    taken = intake.take("celery", SUBMISSIONS, [first, second, first])

    assert (taken.accepted, taken.known) == (2, 1)
    assert bench.job(B)["last_seq"] == 1


def test_a_submission_without_a_route_or_with_wrong_parameters_is_kept_as_rejected(bench: Bench, intake: Intake):
    wrong = [("nowhere", {}), (None, None), ("employees", {"employeeId": "x"}), ("employees", 7)]
    intake.take("celery", SUBMISSIONS, [Record(identity=f"{n}", body=encode_submission(*each)) for n, each in enumerate(wrong)])

    assert sorted(row["reject_reason"] for row in bench.rows("dead_letters")) == [
        "invalid-parameter",
        "invalid-parameter",
        "unknown-route",
        "unknown-route",
    ]
