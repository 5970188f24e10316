import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from sqlalchemy.orm.exc import StaleDataError
from waiting import TEST_TIMEOUT

from tasks.devstack.company.model import Employee
from tasks.devstack.company.store import Change, Company, OlderFence, Progress, UnknownEmployee

COLUMNS = (Employee.department, Employee.revision, Employee.version)


@pytest.fixture
def company(tmp_path: Path) -> Iterator[Company]:
    company = Company(tmp_path)
    company.create([1, 2, 3])
    yield company
    company.close()


def read_employee(company: Company, number: int) -> dict[str, Any]:
    with company.database.connect() as connection:
        return dict(connection.execute(select(*COLUMNS).where(Employee.id == number)).one()._mapping)


def moved(revision: int, *employees: int) -> Change:
    return Change(department=f"department {revision}", revision=revision, employees=employees)


def test_an_employee_is_stale_until_a_change_is_applied(company: Company):
    company.change_facts(moved(1, 1, 2))
    assert company.find_stale() == [1, 2]
    company.apply(moved(1, 1, 2))
    assert company.find_stale() == []
    assert read_employee(company, 1) == {"department": "department 1", "revision": 1, "version": 2}
    assert read_employee(company, 3)["version"] == 1


def test_of_two_concurrent_changes_one_fails_and_changes_nothing(company: Company, tmp_path: Path):
    barrier = threading.Barrier(2)
    failed: list[Change] = []

    def handle(change: Change) -> None:
        instance = Company(tmp_path)
        company.change_facts(change)
        try:
            instance.apply(change, before_write=lambda: barrier.wait(TEST_TIMEOUT) and None)
        except StaleDataError:
            failed.append(change)
        instance.close()

    threads = [threading.Thread(target=handle, args=(change,)) for change in (moved(1, 1, 2), moved(2, 1, 3))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(failed) == 1
    assert read_employee(company, 1)["version"] == 2
    assert read_employee(company, failed[0].employees[1])["version"] == 1
    assert failed[0].employees[1] in company.find_stale()


def test_an_older_change_that_comes_late_changes_nothing(company: Company):
    company.apply(moved(2, 1))
    company.apply(moved(1, 1))
    assert read_employee(company, 1)["department"] == "department 2"


def test_refresh_writes_the_employee_as_it_is_now(company: Company):
    company.change_facts(moved(1, 1))
    company.change_facts(moved(2, 1))
    assert company.refresh(1)["revision"] == 2
    assert company.refresh(1)["revision"] == 2
    assert company.find_stale() == []
    with pytest.raises(UnknownEmployee):
        company.refresh(4)


def test_refresh_refuses_an_older_fence(company: Company):
    company.refresh(1, fence=7)
    company.refresh(1, fence=7)
    with pytest.raises(OlderFence, match="6 after 7"):
        company.refresh(1, fence=6)
    company.refresh(2, fence=6)


def test_a_message_that_is_recorded_twice_counts_once(company: Company):
    for _ in range(2):
        company.record(0, 5, failed=moved(1, 1, 2))
        company.record(0, 6)
    assert company.count_progress() == Progress(handled=2, conflicts=1, dead_letters=2, left_stale=2, stale=2)


def test_an_employee_is_left_stale_if_its_newest_change_failed(company: Company):
    company.change_facts(moved(1, 1, 2))
    company.change_facts(moved(2, 2))
    company.change_facts(moved(3, 3))
    company.apply(moved(2, 2))  # newer than the change about 2 that fails; no consumer has handled the change about 3
    company.record(0, 5, failed=moved(1, 1, 2))
    assert company.count_progress() == Progress(handled=1, conflicts=1, dead_letters=2, left_stale=1, stale=1)
    company.refresh(1)
    assert company.count_progress() == Progress(handled=1, conflicts=1, dead_letters=2, left_stale=1)


def test_a_company_is_created_once(company: Company):
    company.apply(moved(1, 1))
    company.create([1, 2, 3])
    assert read_employee(company, 1)["revision"] == 1
