"""Ten thousand jobs behind a slow API: few messages are out at any time, and losing them, or an hour, costs two sweeps.

The ledger, the services and SQS are real; time is the test's own, so that an API that is slow takes none.
"""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace
from itertools import count
from typing import TYPE_CHECKING, Any

import boto3
import pytest
from ledger_bench import EMPLOYEES, SQLITE, Bench, open_bench

from tasks.dlq.calls.api import Answer, SyncRequest, SyncResult
from tasks.dlq.parameters import Integer
from tasks.dlq.ports import Record
from tasks.dlq.reading.reader import SubmissionReader, encode_submission
from tasks.dlq.services import recovery
from tasks.dlq.services.intake import Intake
from tasks.dlq.services.maintenance import Maintenance
from tasks.dlq.services.recovery import Recovery

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tasks.devstack.sqs import EmbeddedSqs

JOBS = 10_000
ROUTE = replace(EMPLOYEES, params={"employeeId": Integer(positive=True)}, delay=0.0)
SPARE = 10
SWEEP = 5.0
AN_HOUR = 3600.0
COUNTS = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible", "ApproximateNumberOfMessagesDelayed"]


class Line:
    """The recovery queue, of which somebody looks how many messages are out each time that one was sent."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.url = client.create_queue(QueueName="wakeups-bounded")["QueueUrl"]
        self.sent = self.most = 0

    def send(self, job_id: int, *, delay: float) -> None:
        assert delay == 0.0, "every job of this test is due at once"
        self.client.send_message(QueueUrl=self.url, MessageBody=str(job_id))
        self.sent += 1
        self.most = max(self.most, self.out())

    def out(self) -> int:
        """Count what is in the queue, in flight and delayed."""
        found = self.client.get_queue_attributes(QueueUrl=self.url, AttributeNames=COUNTS)["Attributes"]
        return sum(int(found[name]) for name in COUNTS)

    def take(self) -> tuple[int, str] | None:
        """Receive one message: its job, and its receipt."""
        for message in self.client.receive_message(QueueUrl=self.url, WaitTimeSeconds=0).get("Messages", []):
            return int(message["Body"]), message["ReceiptHandle"]
        return None

    def done(self, receipt: str) -> None:
        self.client.delete_message(QueueUrl=self.url, ReceiptHandle=receipt)

    def purge(self) -> None:
        self.client.purge_queue(QueueUrl=self.url)
        assert self.out() == 0


class Works:
    """Intake, three workers and the sweeps, one step after the other."""

    def __init__(self, bench: Bench, line: Line) -> None:
        routes = {"employees": ROUTE}
        self.bench = bench
        self.line = line
        self.takes = 1.0
        self.called: list[str] = []
        self.reader = SubmissionReader(routes=routes)
        self.intake = Intake(bench.ledger, routes, line)
        self.sweeps = Maintenance(bench.ledger, routes, line, count_queued=line.out)
        self.workers = [
            Recovery(
                bench.ledger, routes, self, line, slice_seconds=5.0, worker=f"w{n}", monotonic=lambda: bench.clock.now / 1000
            )
            for n in range(3)
        ]
        self.next_sweep = 0.0
        self._turns = count()

    def call(self, request: SyncRequest) -> SyncResult:
        """Be the API."""
        self.called.append(request.parameters["employeeId"])
        self.pass_by(self.takes)
        return SyncResult(answer=Answer.ANSWERED, status=200)

    def submit(self, employees: range) -> None:
        records = [Record(identity=f"m-{each}", body=encode_submission("employees", {"employeeId": each})) for each in employees]
        self.intake.take("test", self.reader, records)

    def answer_wake_up(self) -> bool:
        """Let the next worker answer a message, if one is there: it is acknowledged at the end, as Celery does it late."""
        found = self.line.take()
        if found:
            job_id, receipt = found
            self.workers[next(self._turns) % 3].run_slice(job_id)
            self.line.done(receipt)
        return bool(found)

    def pass_by(self, seconds: float) -> None:
        """Let time pass; beat goes on, also while calls are open."""
        self.bench.clock.advance(seconds)
        self.next_sweep -= seconds
        if self.next_sweep <= 0:
            self.next_sweep = SWEEP
            self.sweeps.promote()

    def sweep(self) -> None:
        """Wait for the next sweep."""
        self.pass_by(max(self.next_sweep, 0.0))

    def sweeps_to_the_next_call(self) -> int:
        """Sweep until somebody calls; return how many sweeps that took."""
        before, swept = len(self.called), 0
        while len(self.called) == before:
            self.sweep()
            swept += 1
            while len(self.called) == before and self.answer_wake_up():
                pass
        return swept


@pytest.fixture
def works(tmp_path: Path, sqs: EmbeddedSqs, monkeypatch: pytest.MonkeyPatch) -> Iterator[Works]:
    monkeypatch.setattr(recovery, "_log_call", lambda *_: None)  # ten thousand lines that pytest would keep
    keys = {"aws_access_key_id": "local", "aws_secret_access_key": "only-here"}
    with closing(boto3.client("sqs", endpoint_url=sqs.endpoint, region_name=sqs.region, **keys)) as client:
        for bench in open_bench(SQLITE, tmp_path):
            yield Works(bench, Line(client))


def test_ten_thousand_jobs_never_have_more_out_than_the_window_and_lose_neither_a_purge_nor_an_hour(works: Works):
    for start in range(0, JOBS, 500):
        works.submit(range(start + 1, start + 501))
        works.answer_wake_up()
    assert works.line.out() <= ROUTE.window + SPARE
    assert len(works.called) < JOBS / 20  # the API is slow: nearly all of them wait

    works.line.purge()
    assert works.sweeps_to_the_next_call() <= 2

    for _ in range(15):
        works.sweep()  # what has just been rung is lost, too
        works.line.purge()
        assert works.sweeps_to_the_next_call() <= 2

    works.line.purge()
    works.bench.clock.advance(AN_HOUR)  # nobody works
    works.sweeps.note_worker_start()  # the workers start
    assert works.sweeps_to_the_next_call() <= 2

    works.takes = 0.005
    while len(works.called) < JOBS:
        if not works.answer_wake_up():
            works.sweep()
    assert works.line.most <= ROUTE.window + SPARE
    assert works.line.sent <= JOBS / 20
    assert len(set(works.called)) == len(works.called) == JOBS
    assert works.bench.sums() == {"accepted": JOBS, "recovered": JOBS}
