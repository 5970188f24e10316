"""Celery in this process, on an embedded SQS behind a wiretap: the worker is Celery's own, with the real configuration."""

from __future__ import annotations

import importlib
import os
import sys
from typing import TYPE_CHECKING, Any

import postgresql_server
import pytest
from doubles.company_api import CompanyApi, company_api_server
from doubles.sqs_recorder import SqsRecorder, recording_sqs
from http_calls import PEM, TOKEN
from kafka_world import World
from kombu.asynchronous import set_event_loop

from tasks.adapters.http import RequestsSyncApi
from tasks.devstack.kafka import EmbeddedKafka
from tasks.monitoring import attach
from tasks.settings import settings
from tasks.worker.delivery import runtime_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from celery import Celery

    from tasks.devstack.redis import EmbeddedRedis
    from tasks.devstack.sqs import EmbeddedSqs
    from tasks.runtime import Runtime

CONFIG = """
[broker]
url = "sqs://local:only-here@127.0.0.1:{port}"
[monitor]
url = "{redis}"
[routes.employees]
url = "http://127.0.0.1:{api_port}/employees/{{employeeId}}"
delay = "30s"
deadline = "5s"
drain = "0s"
params.employeeId = "positive-int"
[routes.now]
url = "http://127.0.0.1:{api_port}/now/{{employeeId}}"
delay = "0s"
deadline = "5s"
drain = "0s"
params.employeeId = "positive-int"
retry = {{ base = "10s", cap = "20s" }}
[sources.employees_dlq]
kind = "sqs"
queue = "employees-dlq"
route = "employees"
map.employeeId = "employeeId"
"""


@pytest.fixture(scope="session", autouse=True)
def _postgresql() -> Iterator[None]:
    """End the PostgreSQL server that tests of this process may have started."""
    yield
    postgresql_server.close_shared()


@pytest.fixture(scope="session")
def wire(sqs: EmbeddedSqs) -> Iterator[SqsRecorder]:
    with recording_sqs(sqs.port) as wire:
        yield wire


@pytest.fixture(scope="session")
def session_api() -> Iterator[CompanyApi]:
    with company_api_server() as api:
        yield api


@pytest.fixture(scope="session")
def celery_config(
    wire: SqsRecorder, redis_server: EmbeddedRedis, session_api: CompanyApi, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, Any]]:
    """The real celeryconfig, made from a redrive.toml as a person would write it."""
    folder = tmp_path_factory.mktemp("redrive")
    file = folder / "redrive.toml"
    api_port = session_api.url.rpartition(":")[2]
    file.write_text(CONFIG.format(port=wire.port, redis=redis_server.url, api_port=api_port))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(os.environ, "REDRIVE_CONFIG", str(file))
        patch.setitem(os.environ, "REDRIVE_STATE_DIR", str(folder))
        settings.cache_clear()
        sys.modules.pop("celeryconfig", None)
        module = importlib.import_module("celeryconfig")
        yield {name: value for name, value in vars(module).items() if not name.startswith("_")}
    settings.cache_clear()
    sys.modules.pop("celeryconfig", None)


@pytest.fixture(scope="session")
def celery_parameters() -> dict[str, Any]:
    return {"task_cls": "tasks.worker.delivery:RedriveTask"}


@pytest.fixture(scope="session")
def celery_session_app(celery_session_app: Celery, redis_server: EmbeddedRedis) -> Celery:
    """The session's application with its side channel, as tasks/celery.py has it."""
    attach(celery_session_app, redis_server.url)
    set_event_loop(None)  # kombu keeps one for the process: another test's worker may have left something open in it
    return celery_session_app


@pytest.fixture(scope="session")
def celery_includes() -> tuple[str, ...]:
    return ("tasks.intake", "tasks.recovery", "tasks.sweeps")


@pytest.fixture(scope="session")
def celery_worker_parameters() -> dict[str, Any]:
    return {"perform_ping_check": False, "shutdown_timeout": 30.0, "prefetch_multiplier": 1}


@pytest.fixture(scope="session")
def runtime(celery_session_app: Celery) -> Iterator[Runtime]:
    """The runtime of this process, with its queues and an empty ledger."""
    runtime = runtime_of(celery_session_app)
    runtime.ensure_ledger()
    runtime.ensure_queues()
    yield runtime
    runtime.close()


@pytest.fixture(scope="module")
def kafka() -> Iterator[EmbeddedKafka]:
    with EmbeddedKafka() as cluster:
        yield cluster


@pytest.fixture
def world(kafka: EmbeddedKafka, tmp_path: Path) -> Iterator[World]:
    made = World(kafka.bootstrap, tmp_path)
    kafka.make(made.topic)
    yield made
    made.close()


@pytest.fixture
def http_api() -> Iterator[RequestsSyncApi]:
    api = RequestsSyncApi({"employees": TOKEN}, ca_bundle=str(PEM))
    yield api
    api.close()
