"""The database operations of the sample company. Each function blocks, and is one transaction."""

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

#: Seconds to wait for the write lock of another process.
BUSY_TIMEOUT = 20.0


class UnknownEmployee(LookupError):  # noqa: N818 - reads better where it is caught
    """The company has no employee with this number."""


class OlderFence(RuntimeError):  # noqa: N818
    """A call with a higher fence has written this employee already."""


@dataclass(frozen=True, kw_only=True)
class Change:
    """The content of a message.

    Attributes:
        department: the new department of the employees.
        revision: the revision of the facts that has it.
        employees: the numbers of the employees.
    """

    department: str
    revision: int
    employees: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Progress:
    """What the consumers have done so far.

    Attributes:
        handled: number of messages handled.
        conflicts: number of messages that failed with a conflict.
        dead_letters: number of messages sent to the recovery queue, one for each employee of a failed message.
        left_stale: number of employees whose newest change failed. Without Redrive they would stay stale.
        stale: number of employees that are still older than a change that failed.
    """

    handled: int = 0
    conflicts: int = 0
    dead_letters: int = 0
    left_stale: int = 0
    stale: int = 0


class Company:
    """The company's database and the upstream database, both in `directory`. Several processes may use them at once."""

    def __init__(self, directory: Path) -> None:
        self.database = _make_engine(directory / "company.db")
        self.upstream = _make_engine(directory / "upstream.db")

    def close(self) -> None:
        """Close all connections."""
        self.database.dispose()
        self.upstream.dispose()

    def create(self, employees: Iterable[int]) -> None:
        """Create the tables and these employees, unless they exist."""
        UpstreamBase.metadata.create_all(self.upstream)
        CompanyBase.metadata.create_all(self.database)
        rows = [{"id": number, "department": "Reception", "revision": 0} for number in employees]
        with self.upstream.begin() as upstream, self.database.begin() as company:
            upstream.execute(insert(Fact).prefix_with("OR IGNORE"), rows)
            company.execute(insert(Employee).prefix_with("OR IGNORE"), [{**row, "version": 1} for row in rows])

    def change_facts(self, change: Change) -> None:
        """Change the upstream facts. The company does not know of it yet."""
        facts = {"department": change.department, "revision": change.revision}
        with self.upstream.begin() as upstream:
            upstream.execute(update(Fact).where(Fact.id.in_(change.employees)).values(facts))

    def apply(self, change: Change, *, before_write: Callable[[], None] = lambda: None) -> None:
        """Apply a change to all its employees in one transaction. An employee with a newer revision keeps it.

        `before_write` is called between reading and writing.

        Raises:
            StaleDataError: another process has written one of the employees meanwhile. Nothing has changed.
        """
        with Session(self.database) as session, session.begin():
            employees = session.scalars(select(Employee).where(Employee.id.in_(change.employees))).all()
            before_write()
            for employee in employees:
                employee.changes += 1
                employee.consumed = max(employee.consumed, change.revision)
                if employee.revision < change.revision:
                    employee.department, employee.revision = change.department, change.revision

    def refresh(self, number: int, *, fence: int | None = None) -> dict[str, Any]:
        """Read the upstream fact about an employee and write the employee as it is now. May be repeated without harm.

        Raises:
            UnknownEmployee: there is no such employee.
            OlderFence: a call with a higher fence has written the employee.
            StaleDataError: another process has written the employee meanwhile.
        """
        with Session(self.database, expire_on_commit=False) as session:
            employee = session.get(Employee, number)  # read the version before the fact: so no older fact is written
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
            return {
                "employeeId": employee.id,
                "department": employee.department,
                "revision": employee.revision,
                "version": employee.version,
            }

    def find_stale(self) -> list[int]:
        """Return the numbers of all employees that differ from the facts."""
        copies = select(Employee.id, Employee.department, Employee.revision)
        facts = select(Fact.id, Fact.department, Fact.revision)
        with self.database.connect() as company:
            known = set(company.execute(copies))
        with self.upstream.connect() as upstream:
            return sorted(number for number, *fact in upstream.execute(facts) if (number, *fact) not in known)

    def record(self, partition: int, offset: int, *, failed: Change | None = None) -> None:
        """Record that a message was handled, and its change if it failed. May be repeated without harm."""
        position = {"partition": partition, "offset": offset}
        handled = {**position, "conflict": failed is not None}
        with self.database.begin() as company:
            company.execute(insert(Handled).prefix_with("OR IGNORE"), [handled])
            if failed:
                rows = [{**position, "employee_id": number, "revision": failed.revision} for number in failed.employees]
                company.execute(insert(Failure).prefix_with("OR IGNORE"), rows)

    def count_progress(self) -> Progress:
        """Count what the consumers have recorded."""
        messages = select(func.count(), func.count().filter(Handled.conflict)).select_from(Handled)
        employees = func.count(Employee.id.distinct())
        stale_employees = select(
            employees.filter(Employee.consumed < Failure.revision), employees.filter(Employee.revision < Failure.revision)
        ).join(Failure, Failure.employee_id == Employee.id)
        with self.database.connect() as company:
            handled, conflicts = company.execute(messages).one()
            failures = company.scalar(select(func.count()).select_from(Failure))
            left_stale, stale = company.execute(stale_employees).one()
        return Progress(handled=handled, conflicts=conflicts, dead_letters=failures or 0, left_stale=left_stale, stale=stale)


def _make_engine(path: Path) -> Engine:
    engine = create_engine(f"sqlite:///{path}", connect_args={"timeout": BUSY_TIMEOUT})

    @event.listens_for(engine, "connect")
    def set_pragmas(connection: sqlite3.Connection, _: object) -> None:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = NORMAL")

    return engine
