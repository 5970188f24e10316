"""A bare `celery -A tasks worker` and `celery -A tasks beat` are the whole system on one node."""

from __future__ import annotations

import json
import signal
from collections import Counter
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from doubles.sqs_recorder import recording_sqs
from doubles.tcp_proxy import TcpProxy
from stack import Stack, stack
from waiting import TEST_TIMEOUT, until

from tasks.names import CELERY_QUEUES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from doubles.company_api import CompanyApi

    from tasks.devstack.sqs import EmbeddedSqs


@pytest.fixture
def system(tmp_path: Path, sqs: EmbeddedSqs, company_api: CompanyApi) -> Iterator[Stack]:
    with stack(tmp_path, sqs, company_api) as made:
        made.start_worker()
        made.start_beat()
        yield made


def test_raw_messages_become_one_call_an_entity_and_a_proof(tmp_path: Path, sqs: EmbeddedSqs, company_api: CompanyApi):
    bodies = [json.dumps({"employeeId": number % 5 + 1}) for number in range(40)]
    with stack(tmp_path, sqs, company_api) as system:
        system.start_worker()  # makes the queues; without beat nobody reads the source
        system.send(*bodies, "not json", '{"employeeId": "../admin"}', '{"other": 1}')
        system.start_beat()
        audit = system.wait_for_audit(accepted=43, recovered=40)
        assert audit["rejected"] == 3
        assert audit["balanced"]
        assert audit["lost"] == 0
        assert system.left() == 0
        assert company_api.most_in_flight == 1
        calls = Counter(company_api.paths())
        assert set(calls) == {f"/employees/{number}" for number in range(1, 6)}
        assert calls.total() <= 20  # forty failures; one call an entity, one more where a batch came during a call
        assert {job["state"] for job in system.jobs()} == {"completed"}


def test_an_api_that_fails_is_called_again_and_what_is_hopeless_is_parked(system: Stack, company_api: CompanyApi):
    company_api.answers += [(503, {}), (409, {}), (200, {})]
    system.send('{"employeeId": 1}')
    system.wait_for_audit(recovered=1)
    assert company_api.paths() == ["/employees/1"] * 3
    company_api.answers.append((400, {}))
    system.send('{"employeeId": 2}')
    audit = system.wait_for_audit(recovered=1, parked=1)
    assert audit["balanced"]
    parked = next(job for job in system.jobs() if job["state"] == "parked")
    assert (parked["outcome"], parked["status"]) == ("hopeless", 400)


def test_refused_credentials_pause_the_route_and_park_nothing(system: Stack, company_api: CompanyApi):
    company_api.answers.append((401, {}))
    system.send('{"employeeId": 1}', '{"employeeId": 2}')
    company_api.wait_for_calls(1)
    until(lambda: system.route()["paused"], what="the pause")
    assert system.audit()["parked"] == 0
    assert len(company_api.paths()) == 1
    assert system.redrive("resume", "employees").returncode == 0
    system.wait_for_audit(recovered=2)


def test_a_worker_that_is_killed_in_a_call_loses_nothing(system: Stack, company_api: CompanyApi):
    company_api.gate.clear()
    system.send('{"employeeId": 1}', '{"employeeId": 2}')
    company_api.wait_for_calls(1)
    worker = system.processes.pop("worker")
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    company_api.gate.set()
    system.start_worker("second")
    audit = system.wait_for_audit(recovered=2)
    assert audit["lost"] == 0
    assert max(company_api.most_per_path.values()) == 1


def test_the_whole_broker_is_lost_and_every_job_is_called(system: Stack, company_api: CompanyApi):
    company_api.gate.clear()
    system.send(*[json.dumps({"employeeId": number}) for number in range(1, 31)])
    company_api.wait_for_calls(1)
    system.wait_for_audit(accepted=30)
    for queue in ("redrive-recovery", "redrive-maintenance"):
        url = system.client.get_queue_url(QueueName=system.prefix + queue)["QueueUrl"]
        system.client.purge_queue(QueueUrl=url)
    company_api.gate.set()
    assert system.wait_for_audit(recovered=30)["balanced"]


def test_any_celery_application_submits_by_name_and_a_dead_submission_is_swept(system: Stack, company_api: CompanyApi):
    system.submit("employees", employeeId=7)
    system.submit("nowhere")
    system.submit("employees", employeeId=8, options={"queue": "redrive-submit-dead"})
    with system.producer() as producer:
        producer.send_task("redrive.recover", (1,), queue="redrive-recovery-dead")
    audit = system.wait_for_audit(accepted=3, recovered=2, rejected=1)
    assert set(audit["sources"]) == {"celery"}
    assert sorted(company_api.paths()) == ["/employees/7", "/employees/8"]
    until(lambda: system.left("redrive-recovery-dead") + system.left("redrive-submit-dead") == 0)


def test_two_workers_and_two_beats_never_call_twice_at_once(tmp_path: Path, sqs: EmbeddedSqs, company_api: CompanyApi):
    with stack(tmp_path, sqs, company_api) as system:
        system.start_worker("one")
        system.start_worker("two")
        system.start_beat("first-beat")
        system.start_beat("second-beat")
        system.send(*[json.dumps({"employeeId": number}) for number in range(1, 61)])
        assert system.wait_for_audit(recovered=60)["balanced"]
    assert company_api.most_in_flight == 1


def test_sigterm_ends_worker_and_beat_cleanly(system: Stack):
    for name in ("worker", "beat"):
        process = system.processes[name]
        process.terminate()
        assert process.wait(TEST_TIMEOUT) == 0, system.log(name)[-2000:]
        assert "Traceback" not in system.log(name)


@pytest.mark.parametrize("busy", [False, True])
def test_a_worker_outlives_an_sqs_that_is_away_for_a_moment(
    tmp_path: Path, sqs: EmbeddedSqs, company_api: CompanyApi, *, busy: bool
):
    proxy = TcpProxy(sqs.port)
    with stack(tmp_path, sqs, company_api) as system:
        config = tmp_path / "redrive.toml"
        config.write_text(config.read_text().replace(f"127.0.0.1:{sqs.port}", f"127.0.0.1:{proxy.port}"))
        worker = system.start_worker()
        system.start_beat()
        if busy:
            company_api.gate.clear()
            system.send('{"employeeId": 1}')
            company_api.wait_for_calls(1)
        proxy.cut()
        until(lambda: "poll_failed" in system.log("worker"), what="a failed poll")
        proxy.restore()
        company_api.gate.set()
        system.send('{"employeeId": 2}')
        assert system.wait_for_audit(recovered=1 + busy)["balanced"]
        assert worker.poll() is None
    proxy.close()


def refusal(status: int, code: str) -> tuple[int, bytes]:
    return status, json.dumps({"__type": f"com.amazonaws.sqs#{code}", "message": "not now"}).encode()


def test_a_worker_outlives_whatever_sqs_answers_to_a_poll(tmp_path: Path, sqs: EmbeddedSqs, company_api: CompanyApi):
    faults = [
        refusal(403, "ExpiredTokenException"),
        refusal(400, "RequestThrottled"),
        refusal(503, "ServiceUnavailable"),
        (200, b"<html>"),
        (200, b"[]"),
        None,
    ]
    with recording_sqs(sqs.port) as wire, stack(tmp_path, sqs, company_api) as system:
        config = tmp_path / "redrive.toml"
        config.write_text(config.read_text().replace(f'127.0.0.1:{sqs.port}"', f'127.0.0.1:{wire.port}"\nwait_time = 1'))
        worker = system.start_worker()
        for number, fault in enumerate(faults, start=1):
            wire.fail("ReceiveMessage", *[fault] * 6)  # two for each of the three queues, or so
            until(lambda: not wire.is_failing("ReceiveMessage"), what=f"fault {fault}")
            system.submit("employees", employeeId=number)
            system.wait_for_audit(recovered=number)
        assert worker.poll() is None
        assert system.log("worker").count("poll_failed") >= 6 * 3
        assert "Traceback" not in system.log("worker")


def test_an_sqs_that_comes_back_empty_gets_its_queues_again(system: Stack, company_api: CompanyApi):
    system.send('{"employeeId": 1}')
    system.wait_for_audit(recovered=1)
    for url in system.client.list_queues(QueueNamePrefix=system.prefix)["QueueUrls"]:
        system.client.delete_queue(QueueUrl=url)
    wanted = {f"{name}{dead}" for name in (*CELERY_QUEUES, "employees-dlq") for dead in ("", "-dead")}
    until(lambda: system.queues() >= wanted, what=f"{wanted}, with {system.queues()}")
    system.send('{"employeeId": 2}')
    system.submit("employees", employeeId=3)
    assert system.wait_for_audit(recovered=3)["balanced"]
    assert sorted(company_api.paths()) == ["/employees/1", "/employees/2", "/employees/3"]


def test_a_message_that_is_no_call_of_a_task_is_kept_at_once(system: Stack, company_api: CompanyApi):
    envelope = {"body": "!", "headers": [], "properties": "none", "content-type": None}
    poison = (json.dumps(envelope), json.dumps({**envelope, "properties": None}), "[1]", "no json", "[" * 100_000)
    for queue in CELERY_QUEUES:
        system.send(*poison, queue=queue)
    system.submit("employees", employeeId=1)
    audit = system.wait_for_audit(rejected=15, recovered=1)
    assert audit["balanced"]
    assert company_api.paths() == ["/employees/1"]
    until(lambda: system.left("redrive-submit") + system.left("redrive-recovery") == 0)
    rejects = [json.loads(line) for line in system.redrive("rejects", "--json").stdout.splitlines()]
    assert {each["reject_reason"] for each in rejects} == {"not-a-task", "not-json", "too-deep"}


def test_what_a_submission_asks_of_celery_beyond_its_task_does_not_count(system: Stack, company_api: CompanyApi):
    """Celery itself forgets what has expired, holds what has an eta, and acknowledges what it cannot parse."""
    system.submit("employees", employeeId=1, options={"expires": datetime(2001, 1, 1, tzinfo=UTC)})
    system.submit("employees", employeeId=2, options={"eta": datetime(2999, 1, 1, tzinfo=UTC)})
    system.submit("employees", employeeId=3, options={"time_limit": 0.001, "soft_time_limit": 0.001})
    system.submit("employees", employeeId=4, options={"compression": "zlib"})
    system.submit("employees", employeeId=10**999)
    system.submit("employees", employeeId={"__type__": "datetime", "__value__": "soon"})
    with system.producer() as producer:  # `self` is a name like any other
        kwargs = {"self": 1, "task": 2, "route": "employees", "parameters": {"employeeId": 6}}
        producer.send_task("redrive.submit", kwargs=kwargs, queue="redrive-submit")
    for _ in range(2):  # an id that a producer chose, and chose again: two failures
        system.submit("employees", employeeId=5, options={"task_id": "mine"})
    audit = system.wait_for_audit(accepted=9, recovered=6, rejected=3)
    assert audit["balanced"]
    assert set(company_api.paths()) == {f"/employees/{number}" for number in (1, 2, 3, 5, 6)}


def test_beat_makes_the_state_directory(tmp_path: Path, sqs: EmbeddedSqs, company_api: CompanyApi):
    with stack(tmp_path, sqs, company_api) as system:
        system.start("beat", "celery", "-A", "tasks", "beat", "--loglevel=INFO")
        until(lambda: "beat: Starting" in system.log("beat"), what=system.log("beat")[-1000:])
        assert (tmp_path / "state").is_dir()
        assert "Traceback" not in system.log("beat")
