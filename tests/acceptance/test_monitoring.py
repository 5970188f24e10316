"""The side channel over a real Redis: what a worker tells, and that it never waits for it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from side_channel import Redis, answer, running, watching
from structlog.testing import capture_logs
from waiting import until

from tasks.devstack import child
from tasks.devstack.redis import EmbeddedRedis
from tasks.monitoring import remote_control
from tasks.monitoring.events import Outbox

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tasks.devstack.sqs import EmbeddedSqs


@pytest.fixture
def side() -> Iterator[Redis]:
    with EmbeddedRedis() as server:
        made = Redis(server)
        yield made
        child.stop([made.process], grace=0)


def task_states(state: Any) -> dict[str, str]:
    return {task.args or "": task.state for task in dict(state.tasks).values()}


def test_a_worker_is_seen_with_its_finished_tasks(sqs: EmbeddedSqs, side: Redis):
    with running(sqs, side.url) as worker, watching(side.url) as state:
        until(lambda: worker.hostname in state.workers)
        worker.works(1)
        assert until(lambda: task_states(state).get("(1,)") == "SUCCESS")
        until(lambda: state.workers[worker.hostname].alive)


def test_the_last_event_of_a_worker_arrives(sqs: EmbeddedSqs, side: Redis):
    seen: list[dict[str, Any]] = []
    with watching(side.url, seen.append):
        with running(sqs, side.url) as worker:
            until(lambda: seen)
        until(lambda: ("worker-offline", worker.hostname) in [(event["type"], event["hostname"]) for event in seen])


def test_tasks_go_on_while_redis_is_dead(sqs: EmbeddedSqs, side: Redis):
    with running(sqs, side.url) as worker, watching(side.url) as state:
        until(lambda: worker.hostname in state.workers)
        side.kill()
        for number in range(20):
            worker.works(number)
        side.revive()
        side.has_subscribers(2)
        assert answer(side.url, "ping") == {"ok": "pong"}
        worker.works(100)
        until(lambda: task_states(state).get("(100,)") == "SUCCESS")


def test_tasks_go_on_while_redis_never_answers(sqs: EmbeddedSqs, side: Redis, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(remote_control, "PING_INTERVAL", 0.2)
    monkeypatch.setattr(remote_control, "SILENCE", 0.6)
    with running(sqs, side.url) as worker, watching(side.url) as state:
        until(lambda: worker.hostname in state.workers)
        side.freeze()
        for number in range(20):
            worker.works(number)
        side.thaw()
        side.has_subscribers(2)
        assert answer(side.url, "ping") == {"ok": "pong"}
        worker.works(100)
        until(lambda: task_states(state).get("(100,)") == "SUCCESS")


def test_a_worker_starts_and_stops_without_redis(sqs: EmbeddedSqs, side: Redis):
    side.kill()
    with capture_logs() as logs, running(sqs, side.url) as worker:
        until(lambda: [each["event"] for each in logs].count("redis_lost") == 2)
        worker.works(1)
    assert [each["event"] for each in logs].count("redis_lost") == 2  # once per thread, not once per try


def test_an_outbox_keeps_the_newest_and_no_more_than_its_limit(side: Redis):
    outbox = Outbox(side.url, exchange="celeryev", limit=10)
    for number in range(100):
        outbox.publish({"type": "task-custom", "number": number}, routing_key="task.custom")
    assert len(outbox) == 10
    seen: list[dict[str, Any]] = []
    with watching(side.url, seen.append):
        outbox.start()
        until(lambda: len(seen) == 10)
    assert [event["number"] for event in seen] == list(range(90, 100))


def test_an_event_that_is_not_json_does_not_stop_the_others(side: Redis):
    outbox = Outbox(side.url, exchange="celeryev")
    seen: list[dict[str, Any]] = []
    with capture_logs() as logs, watching(side.url, seen.append):
        outbox.start()
        outbox.publish({"type": "task-bad", "bad": object()}, routing_key="task.bad")
        outbox.publish({"type": "task-good"}, routing_key="task.good")
        until(lambda: seen)
    assert [event["type"] for event in seen] == ["task-good"]
    assert [each["event"] for each in logs] == ["event_dropped"]
