"""A worker that is stopped: the call in hand ends, no other begins, and what is left is due at once."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from stack import Stack, stack
from waiting import TEST_TIMEOUT, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from doubles.company_api import CompanyApi

    from tasks.devstack.sqs import EmbeddedSqs

JOBS = 5


@pytest.fixture
def calling(tmp_path: Path, sqs: EmbeddedSqs, company_api: CompanyApi) -> Iterator[Stack]:
    """A worker in the middle of the first of five calls, and no beat any more."""
    company_api.gate.clear()
    with stack(tmp_path, sqs, company_api) as made:
        made.env["REDRIVE_ROUTES__EMPLOYEES__DEADLINE"] = "3m"
        made.start_worker()
        made.send(*[json.dumps({"employeeId": number}) for number in range(1, JOBS + 1)])
        assert made.redrive("intake", "--once").returncode == 0
        company_api.wait_for_calls(1)
        yield made


def the_main_process(system: Stack) -> None:
    system.processes["worker"].terminate()


def the_whole_group(system: Stack) -> None:
    os.killpg(system.processes["worker"].pid, signal.SIGTERM)


def process_of_the_pool(system: Stack) -> int | None:
    main = system.processes["worker"].pid
    children = Path(f"/proc/{main}/task/{main}/children").read_text().split()
    return int(children[0]) if children else None


def attempts(system: Stack) -> list[tuple[str, int]]:
    shown = [json.loads(system.redrive("show", str(job["id"]), "--json").stdout) for job in system.jobs()]
    return [(attempt["outcome"], attempt["number"]) for job in shown for attempt in job["attempts_made"]]


@pytest.mark.parametrize("whom", [the_main_process, the_whole_group])
def test_sigterm_ends_the_call_in_hand_and_leaves_the_rest_due_at_once(
    calling: Stack, company_api: CompanyApi, whom: Callable[[Stack], None]
):
    whom(calling)
    until(lambda: "Warm shutdown" in calling.log("worker"))
    company_api.gate.set()
    assert calling.processes["worker"].wait(TEST_TIMEOUT) == 0, calling.log("worker")[-2000:]
    assert "Traceback" not in calling.log("worker")
    assert len(company_api.calls) == 1
    assert attempts(calling) == [("success", 1)]
    assert calling.audit()["pending"] == JOBS - 1

    calling.start_worker("second")  # there is no beat: what the first worker left behind brings it on
    company_api.wait_for_calls(JOBS)
    calling.wait_for_audit(recovered=JOBS)
    assert attempts(calling) == [("success", 1)] * JOBS
    assert company_api.most_in_flight == 1


def test_sigterm_for_a_process_of_the_pool_ends_its_call_first_and_another_takes_its_place(
    calling: Stack, company_api: CompanyApi
):
    first = process_of_the_pool(calling)
    assert first is not None
    os.kill(first, signal.SIGTERM)
    company_api.gate.set()
    until(lambda: process_of_the_pool(calling) not in (first, None))
    calling.wait_for_audit(recovered=JOBS)
    assert attempts(calling) == [("success", 1)] * JOBS
