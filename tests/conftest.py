"""Fixtures of all tests: the embedded parts, and a company API that does as it is told."""

from __future__ import annotations

import signal
import threading
from typing import TYPE_CHECKING

import pytest
from doubles.company_api import CompanyApi, company_api_server
from hypothesis import settings

from tasks.devstack.redis import EmbeddedRedis
from tasks.devstack.sqs import EmbeddedSqs

if TYPE_CHECKING:
    from collections.abc import Iterator

settings.register_profile("redrive", deadline=None)  # a time limit for each example would depend on the load of the machine
settings.load_profile("redrive")

# In the background of a shell SIGINT is ignored, and what a test starts would inherit that: no Ctrl-C would reach it.
if threading.current_thread() is threading.main_thread():
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def sqs() -> Iterator[EmbeddedSqs]:
    with EmbeddedSqs() as server:
        yield server


@pytest.fixture(scope="session")
def redis_server() -> Iterator[EmbeddedRedis]:
    with EmbeddedRedis() as server:
        yield server


@pytest.fixture
def company_api() -> Iterator[CompanyApi]:
    with company_api_server() as api:
        yield api
