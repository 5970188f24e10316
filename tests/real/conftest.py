"""Fixtures of the tier with real servers. What is missing skips with its reason, and fails where REDRIVE_REQUIRE_ALL is 1."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

import pytest
from jvm_servers import ElasticMq, KafkaBroker
from maven import Missing, server_classpath, spring_consumer

if TYPE_CHECKING:
    from collections.abc import Iterator

REQUIRED = "REDRIVE_REQUIRE_ALL"


@pytest.fixture(scope="session")
def elasticmq() -> Iterator[ElasticMq]:
    with or_skip():
        server_classpath("elasticmq")
    with ElasticMq() as server:
        yield server


@pytest.fixture(scope="session")
def kafka_broker() -> Iterator[KafkaBroker]:
    with or_skip():
        server_classpath("kafka")
    with KafkaBroker() as server:
        yield server


@pytest.fixture(scope="session")
def consumer_classpath() -> str:
    """The class path of examples/spring-consumer, with its rehearsal."""
    with or_skip():
        return spring_consumer()


@contextmanager
def or_skip() -> Iterator[None]:
    """Skip when something is Missing, or fail where nothing may be."""
    try:
        yield
    except Missing as missing:
        reason = f"the tier with real servers: {missing}"
    else:
        return
    if os.environ.get(REQUIRED) == "1":
        pytest.fail(f"{reason} ({REQUIRED} is 1)", pytrace=False)
    pytest.skip(reason)
