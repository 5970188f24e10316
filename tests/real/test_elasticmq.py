"""Redrive on the ElasticMQ of docker-compose: a bare worker and beat, with the queues that its file makes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from compose_file import elasticmq_queues
from stack import Stack, stack

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from doubles.company_api import CompanyApi
    from jvm_servers import ElasticMq


@pytest.fixture
def system(tmp_path: Path, elasticmq: ElasticMq, company_api: CompanyApi) -> Iterator[Stack]:
    with stack(tmp_path, elasticmq, company_api) as made:  # type: ignore[arg-type]
        config = tmp_path / "redrive.toml"
        config.write_text(config.read_text().replace(made.prefix, ""))
        made.prefix = ""  # the very queues of deploy/elasticmq.conf
        made.start_worker()
        made.start_beat()
        yield made


def test_failures_are_healed_and_the_audit_balances(system: Stack, company_api: CompanyApi):
    company_api.answers += [(503, {}), (409, {})]
    system.send(*[json.dumps({"employeeId": number % 5 + 1}) for number in range(30)], "not json")
    audit = system.wait_for_audit(accepted=31, recovered=30, rejected=1)
    assert audit["balanced"]
    assert audit["lost"] == 0
    assert set(company_api.paths()) == {f"/employees/{number}" for number in range(1, 6)}
    assert company_api.most_in_flight == 1
    assert system.left() == 0
    assert {job["state"] for job in system.jobs()} == {"completed"}
    assert queues_of_ours(system) == set(elasticmq_queues()), "the file has others than Redrive makes"


def queues_of_ours(system: Stack) -> set[str]:
    """Return the queues without a prefix: other tests have theirs on the same server."""
    names = {url.rpartition("/")[2] for url in system.client.list_queues()["QueueUrls"]}
    return {name for name in names if name.startswith(("redrive-", "employees-"))}
