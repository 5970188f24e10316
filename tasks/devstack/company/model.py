"""The tables of the sample company, and those of the upstream system (an HR system, say) that owns the facts about employees.

The company keeps a copy of the facts. `Employee.version` works as JPA's @Version does: an UPDATE names the version that was read,
and finds no row if another process has written the row meanwhile.
"""

from __future__ import annotations

from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class UpstreamBase(DeclarativeBase):
    """The tables of the upstream system."""


class Fact(UpstreamBase):
    """The truth about an employee."""

    __tablename__ = "facts"

    id: Mapped[int] = mapped_column(primary_key=True)
    department: Mapped[str]
    revision: Mapped[int] = mapped_column(doc="grows with each change")


class CompanyBase(DeclarativeBase):
    """The tables of the company."""


class Employee(CompanyBase):
    """The company's copy of a fact. It is stale if the fact has a higher revision."""

    __tablename__ = "employees"

    id: Mapped[int] = mapped_column(primary_key=True)
    department: Mapped[str]
    revision: Mapped[int]
    changes: Mapped[int] = mapped_column(default=0, doc="number of messages applied, so that each message writes the row")
    consumed: Mapped[int] = mapped_column(default=0, doc="highest revision that a consumer (not a sync call) has applied")
    fence: Mapped[int] = mapped_column(default=0, doc="highest Redrive-Fence that has written the row")
    version: Mapped[int] = mapped_column()

    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012 - SQLAlchemy requires this form


class Handled(CompanyBase):
    """A message that a consumer has handled."""

    __tablename__ = "handled"

    partition: Mapped[int] = mapped_column(primary_key=True)
    offset: Mapped[int] = mapped_column(primary_key=True)
    conflict: Mapped[bool]


class Failure(CompanyBase):
    """An employee of a failed message. The consumer has sent the employee to the recovery queue."""

    __tablename__ = "failures"

    partition: Mapped[int] = mapped_column(primary_key=True)
    offset: Mapped[int] = mapped_column(primary_key=True)
    employee_id: Mapped[int] = mapped_column(primary_key=True)
    revision: Mapped[int] = mapped_column(doc="the revision that was not applied")
