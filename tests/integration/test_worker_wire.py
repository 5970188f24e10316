"""What goes over the wire to SQS: native delays, one message a wake-up, never more of them than the window."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
import redis
from celery import Celery
from celery.signals import task_failure
from waiting import TEST_TIMEOUT, until

from tasks.dlq.ledger import queries
from tasks.dlq.ledger.wakeups import count_outstanding
from tasks.dlq.ports import Record
from tasks.dlq.reading.reader import encode_submission

if TYPE_CHECKING:
    from collections.abc import Iterator

    from doubles.company_api import CompanyApi
    from doubles.sqs_recorder import SqsRecorder

    from tasks.devstack.redis import EmbeddedRedis
    from tasks.runtime import Runtime

RECOVERY = "redrive-recovery"


@pytest.fixture(autouse=True)
def fresh(runtime: Runtime, wire: SqsRecorder) -> Iterator[None]:
    """Begin with an empty recovery queue and a wire on which nothing was said."""
    runtime.celery_queues.client.purge_queue(QueueUrl=runtime.celery_queues.client.get_queue_url(QueueName=RECOVERY)["QueueUrl"])
    wire.clear()
    yield
    runtime.celery_queues.client.purge_queue(QueueUrl=runtime.celery_queues.client.get_queue_url(QueueName=RECOVERY)["QueueUrl"])


def submit(runtime: Runtime, route: str, employees: range) -> None:
    records = [
        Record(identity=f"{route}-{employee}", body=encode_submission(route, {"employeeId": employee})) for employee in employees
    ]
    runtime.intake.take("test", runtime.submissions, records)


def test_a_job_due_in_30_s_is_one_message_with_delay_seconds_30_and_no_eta(runtime: Runtime, wire: SqsRecorder):
    submit(runtime, "employees", range(1, 2))
    [sent] = wire.sent(RECOVERY)
    assert sent.parameters["DelaySeconds"] == 30
    assert sent.celery_headers["task"] == "redrive.recover"
    assert sent.celery_headers["eta"] is None


def test_forty_failures_of_one_entity_ring_once(runtime: Runtime, wire: SqsRecorder):
    records = [Record(identity=f"again-{n}", body=encode_submission("employees", {"employeeId": 77})) for n in range(40)]
    runtime.intake.take("test", runtime.submissions, records)
    assert len(wire.sent(RECOVERY)) == 1


def test_2000_waiting_jobs_never_exceed_the_window(runtime: Runtime, wire: SqsRecorder):
    for start in range(1000, 3000, 500):
        submit(runtime, "employees", range(start, start + 500))
        runtime.maintenance.promote()
    window = runtime.settings.route("employees").window
    assert len(wire.sent(RECOVERY)) <= window
    with runtime.ledger.begin(read_only=True) as tx:
        assert queries.count_jobs(tx)["employees"]["scheduled"] >= 2000
        assert count_outstanding(tx, "employees", tx.now()) == window


@pytest.mark.usefixtures("runtime")
def test_a_countdown_or_eta_of_any_task_becomes_a_native_delay(celery_session_app: Celery, wire: SqsRecorder):
    celery_session_app.loader.import_task_module("tasks.recovery")
    task = celery_session_app.tasks["redrive.recover"]
    task.apply_async((10**9,), countdown=12.2)
    task.apply_async((10**9,), countdown=5000)
    task.apply_async((10**9,), eta=datetime.now(UTC) + timedelta(seconds=60))
    task.apply_async((10**9,))
    assert [call.parameters.get("DelaySeconds") for call in wire.sent(RECOVERY)] == [13, 900, 60, None]
    assert all(call.celery_headers["eta"] is None for call in wire.sent(RECOVERY))


@pytest.fixture
def events(redis_server: EmbeddedRedis) -> Iterator[dict[str, threading.Event]]:
    """Celery's own events, as Flower receives them."""
    seen = {"task-retried": threading.Event()}
    stop = threading.Event()
    watcher = Celery("watcher", broker=redis_server.url, set_as_current=False)

    class Receiver(watcher.events.Receiver):
        should_stop = property(lambda _: stop.is_set())

    def listen() -> None:
        handlers = {name: lambda event: seen[event["type"]].set() for name in seen}
        with watcher.connection_for_read() as connection:
            Receiver(connection, handlers=handlers).capture(limit=None, timeout=None, wakeup=False)

    thread = threading.Thread(target=listen)
    thread.start()
    with redis.Redis.from_url(redis_server.url) as client:
        until(client.pubsub_numpat)
    yield seen
    stop.set()
    thread.join()


@pytest.mark.usefixtures("celery_session_worker")
def test_a_503_gives_a_task_retried_event_and_one_delayed_message_without_eta(
    runtime: Runtime, wire: SqsRecorder, session_api: CompanyApi, events: dict[str, threading.Event]
):
    session_api.answers.append((503, {}))
    submit(runtime, "now", range(1, 2))
    rung, retried = wire.wait_for(RECOVERY, 2)
    assert events["task-retried"].wait(TEST_TIMEOUT)
    assert rung.parameters["DelaySeconds"] == 0
    assert retried.parameters["DelaySeconds"] > 0
    assert retried.celery_headers["eta"] is None
    assert retried.celery_headers["retries"] == 1
    assert session_api.paths() == ["/now/1"]


@pytest.mark.usefixtures("celery_session_worker")
def test_a_submission_that_fails_for_whatever_reason_stays_in_sqs(
    celery_session_app: Celery, runtime: Runtime, wire: SqsRecorder, monkeypatch: pytest.MonkeyPatch
):
    failed = threading.Event()

    def on_failure(**_: object) -> None:
        failed.set()

    def break_down(*_: object) -> None:
        raise RuntimeError("a bug")

    task_failure.connect(on_failure)
    monkeypatch.setattr(runtime.intake, "take", break_down)
    celery_session_app.send_task("redrive.submit", kwargs={"route": "now", "parameters": {"employeeId": 5}})
    assert failed.wait(TEST_TIMEOUT)
    task_failure.disconnect(on_failure)
    monkeypatch.undo()
    celery_session_app.send_task("redrive.submit", kwargs={"route": "now", "parameters": {"employeeId": 6}})
    wire.wait_for_call("DeleteMessage", "redrive-submit")  # of the second: acknowledgements come in order
    queue = runtime.celery_queues.client.get_queue_url(QueueName="redrive-submit")["QueueUrl"]
    counts = runtime.celery_queues.client.get_queue_attributes(
        QueueUrl=queue, AttributeNames=["ApproximateNumberOfMessagesNotVisible"]
    )
    assert counts["Attributes"]["ApproximateNumberOfMessagesNotVisible"] == "1"
