"""What the company does with its databases. Everything here blocks; each function is one transaction."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import Engine, create_engine, event, func, insert, select, update
from sqlalchemy.orm import Session

from tasks.devstack.company.model import CompanyBase, Employee, Fact, Failure, Handled, UpstreamBase

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable
    from pathlib import Path

#: Seconds to wait for another process's write.
BUSY_TIMEOUT = 20.0


class UnknownEmployee(LookupError):  # noqa: N818 - the company's word
    """The company has no such employee."""


class OlderFence(RuntimeError):  # noqa: N818
    """A call with a higher fence has written this employee already: this one came too late."""


@dataclass(frozen=True, kw_only=True)
class Change:
    """What a message says: these employees are in this department, as of this revision of the facts."""

    department: str
    revision: int
    employees: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Progress:
    """What the consumers have done so far, in messages; `dead_letters` are one for each employee of a failed message.

    `left_stale` are the employees whose newest change failed: no consumer has applied it or a newer one, so that they would be
    stale without Redrive. `stale` are those who are it still: their rows are older than a change that failed.
    """

    handled: int = 0
    conflicts: int = 0
    dead_letters: int = 0
    left_stale: int = 0
    stale: int = 0


class Company:
    """The company's database and its neighbour's, both in `directory`; any number of processes may have them open."""

    def __init__(self, directory: Path) -> None:
        self.database = _engine(directory / "company.db")
        self.upstream = _engine(directory / "upstream.db")

    def close(self) -> None:
        """Give the connections back."""
        self.database.dispose()
        self.upstream.dispose()

    def found(self, employees: Iterable[int]) -> None:
        """Make the tables and employ these people, unless that has been done."""
        UpstreamBase.metadata.create_all(self.upstream)
        CompanyBase.metadata.create_all(self.database)
        rows = [{"id": number, "department": "Reception", "revision": 0} for number in employees]
        with self.upstream.begin() as upstream, self.database.begin() as company:
            upstream.execute(insert(Fact).prefix_with("OR IGNORE"), rows)
            company.execute(insert(Employee).prefix_with("OR IGNORE"), [{**row, "version": 1} for row in rows])

    def learn(self, change: Change) -> None:
        """Let the neighbour's facts change. The company does not know yet."""
        facts = {"department": change.department, "revision": change.revision}
        with self.upstream.begin() as upstream:
            upstream.execute(update(Fact).where(Fact.id.in_(change.employees)).values(facts))

    def apply(self, change: Change, *, meet: Callable[[], None] = lambda: None) -> None:
        """Update all employees of a change in one transaction; an older change than a row shows is passed over.

        `meet` is called between reading and writing. Raises StaleDataError when somebody else was faster: nothing is changed.
        """
        with Session(self.database) as session, session.begin():
            employees = session.scalars(select(Employee).where(Employee.id.in_(change.employees))).all()
            meet()
            for employee in employees:
                employee.changes += 1
                employee.consumed = max(employee.consumed, change.revision)
                if employee.revision < change.revision:
                    employee.department, employee.revision = change.department, change.revision

    def refresh(self, number: int, *, fence: int | None = None) -> dict[str, Any]:
        """Re-read the facts about an employee and re-write the employee as it is now. May be repeated at will.

        Raises:
            UnknownEmployee: there is none with this number.
            OlderFence: a call with a higher fence was here before.
            StaleDataError: somebody else wrote the employee meanwhile.
        """
        with Session(self.database, expire_on_commit=False) as session:
            employee = session.get(Employee, number)  # the version first, then the facts: what is written is never older
            if employee is None:
                raise UnknownEmployee(number)
            if fence is not None:
                if fence < employee.fence:
                    raise OlderFence(f"{fence} after {employee.fence}")
                employee.fence = fence
            with Session(self.upstream) as upstream:
                fact = upstream.get_one(Fact, number)
                employee.department, employee.revision = fact.department, fact.revision
            session.commit()
            return _shown(employee)

    def employee(self, number: int) -> dict[str, Any]:
        """Return an employee as the company sees it. Raises UnknownEmployee."""
        with Session(self.database) as session:
            employee = session.get(Employee, number)
            if employee is None:
                raise UnknownEmployee(number)
            return _shown(employee)

    def stale(self) -> list[int]:
        """Return the employees whose rows differ from the facts."""
        rows = select(Employee.id, Employee.department, Employee.revision)
        facts = select(Fact.id, Fact.department, Fact.revision)
        with self.database.connect() as company:
            seen = set(company.execute(rows))
        with self.upstream.connect() as upstream:
            return sorted(number for number, *fact in upstream.execute(facts) if (number, *fact) not in seen)

    def record(self, partition: int, offset: int, *, consumer: str, failed: Change | None = None) -> None:
        """Note that a message was dealt with, and the change that it was about if it failed. Doing so again changes nothing."""
        where = {"partition": partition, "offset": offset}
        with self.database.begin() as company:
            company.execute(
                insert(Handled).prefix_with("OR IGNORE"), [{**where, "consumer": consumer, "conflict": failed is not None}]
            )
            if failed:
                rows = [{**where, "employee_id": number, "revision": failed.revision} for number in failed.employees]
                company.execute(insert(Failure).prefix_with("OR IGNORE"), rows)

    def progress(self) -> Progress:
        """Count what the consumers have recorded."""
        with self.database.connect() as company:
            handled, conflicts = company.execute(
                select(func.count(), func.count().filter(Handled.conflict)).select_from(Handled)
            ).one()
            failures = company.scalar(select(func.count()).select_from(Failure))
            employees = func.count(Employee.id.distinct())
            left_stale, stale = company.execute(
                select(
                    employees.filter(Employee.consumed < Failure.revision), employees.filter(Employee.revision < Failure.revision)
                ).join(Failure, Failure.employee_id == Employee.id)
            ).one()
        return Progress(handled=handled, conflicts=conflicts, dead_letters=failures or 0, left_stale=left_stale, stale=stale)


def _shown(employee: Employee) -> dict[str, Any]:
    return {
        "employeeId": employee.id,
        "department": employee.department,
        "revision": employee.revision,
        "version": employee.version,
    }


def _engine(path: Path) -> Engine:
    engine = create_engine(f"sqlite:///{path}", connect_args={"timeout": BUSY_TIMEOUT})

    @event.listens_for(engine, "connect")
    def pragmas(connection: sqlite3.Connection, _: object) -> None:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")

    return engine
