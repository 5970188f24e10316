"""A worker and beat over PostgreSQL: what failed is healed, though the server restarts in the middle."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from postgresql_server import EmbeddedPostgresql
from stack import stack
from waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from doubles.company_api import CompanyApi

    from tasks.devstack.sqs import EmbeddedSqs


@pytest.fixture
def postgresql() -> Iterator[EmbeddedPostgresql]:
    with EmbeddedPostgresql() as server:
        yield server


def test_a_restart_of_the_server_in_the_middle_of_a_call_loses_and_doubles_nothing(
    tmp_path: Path, sqs: EmbeddedSqs, company_api: CompanyApi, postgresql: EmbeddedPostgresql
):
    with postgresql.database(empty=True) as url, stack(tmp_path, sqs, company_api) as system:
        system.env["REDRIVE_LEDGER__URL"] = url.replace("postgresql:", "postgresql+psycopg:")
        system.start_worker()
        system.start_beat()
        system.send(*[json.dumps({"employeeId": number}) for number in range(1, 6)])
        system.wait_for_audit(accepted=5, recovered=5)

        company_api.gate.clear()
        system.send(*[json.dumps({"employeeId": number}) for number in range(1, 11)])
        company_api.wait_for_calls(6)
        postgresql.crash()
        company_api.gate.set()  # the call ends while there is no ledger
        until(lambda: "settlement_delayed" in system.log("worker"), what="the worker's patience")
        postgresql.start()

        audit = system.wait_for_audit(accepted=15, recovered=15)
        assert audit["balanced"]
        assert company_api.most_in_flight == 1
        assert max(Counter(company_api.paths()).values()) <= 3  # once, again, and once more where a batch came during a call
        assert system.left() == 0
        assert "Traceback" not in system.log("beat")
        assert url.rpartition("@")[0].rpartition(":")[2] not in system.log("worker") + system.log("beat")  # the password
