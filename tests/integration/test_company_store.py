import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy.orm.exc import StaleDataError

from tasks.devstack.company.store import Change, Company, OlderFence, Progress, UnknownEmployee


@pytest.fixture
def company(tmp_path: Path) -> Iterator[Company]:
    company = Company(tmp_path)
    company.found([1, 2, 3])
    yield company
    company.close()


def moved(revision: int, *employees: int) -> Change:
    return Change(department=f"department {revision}", revision=revision, employees=employees)


def test_a_change_makes_employees_stale_until_it_is_applied(company: Company):
    company.learn(moved(1, 1, 2))
    assert company.stale() == [1, 2]
    company.apply(moved(1, 1, 2))
    assert company.stale() == []
    assert company.employee(1) == {"employeeId": 1, "department": "department 1", "revision": 1, "version": 2}
    assert company.employee(3)["version"] == 1


def test_of_two_that_read_the_same_version_one_wins_and_the_other_changes_nothing(company: Company, tmp_path: Path):
    barrier = threading.Barrier(2)
    failed: list[Change] = []

    def handle(change: Change) -> None:
        instance = Company(tmp_path)
        company.learn(change)
        try:
            instance.apply(change, meet=lambda: barrier.wait(20) and None)
        except StaleDataError:
            failed.append(change)
        instance.close()

    threads = [threading.Thread(target=handle, args=(change,)) for change in (moved(1, 1, 2), moved(2, 1, 3))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(failed) == 1
    assert company.employee(1)["version"] == 2
    assert company.employee(failed[0].employees[1])["version"] == 1
    assert failed[0].employees[1] in company.stale()


def test_an_older_change_that_comes_late_is_passed_over(company: Company):
    company.apply(moved(2, 1))
    company.apply(moved(1, 1))
    assert company.employee(1)["department"] == "department 2"


def test_refresh_writes_the_employee_as_it_is_now_and_may_be_repeated(company: Company):
    company.learn(moved(1, 1))
    company.learn(moved(2, 1))
    assert company.refresh(1)["revision"] == 2
    assert company.refresh(1)["revision"] == 2
    assert company.stale() == []
    with pytest.raises(UnknownEmployee):
        company.refresh(4)


def test_refresh_refuses_an_older_fence(company: Company):
    company.refresh(1, fence=7)
    company.refresh(1, fence=7)
    with pytest.raises(OlderFence, match="6 after 7"):
        company.refresh(1, fence=6)
    company.refresh(2, fence=6)


def test_progress_counts_a_message_once_however_often_it_is_recorded(company: Company):
    for _ in range(2):
        company.record(0, 5, consumer="a", failed=moved(1, 1, 2))
        company.record(0, 6, consumer="a")
    assert company.progress() == Progress(handled=2, conflicts=1, dead_letters=2, left_stale=2, stale=2)


def test_left_stale_are_those_whose_newest_change_failed_and_a_sync_makes_them_stale_no_longer(company: Company):
    company.learn(moved(1, 1, 2))
    company.learn(moved(2, 2))
    company.learn(moved(3, 3))
    company.apply(moved(2, 2))  # newer than what fails about 2; and 3, whom no consumer has reached yet, is none of Redrive's
    company.record(0, 5, consumer="a", failed=moved(1, 1, 2))
    assert company.progress() == Progress(handled=1, conflicts=1, dead_letters=2, left_stale=1, stale=1)
    company.refresh(1)
    assert company.progress() == Progress(handled=1, conflicts=1, dead_letters=2, left_stale=1)


def test_a_company_is_founded_once(company: Company):
    company.apply(moved(1, 1))
    company.found([1, 2, 3])
    assert company.employee(1)["revision"] == 1
