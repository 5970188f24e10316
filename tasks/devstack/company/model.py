"""The company's tables, in a database of its own, and its neighbour's: where the facts about employees come from.

The company copies what the neighbour (an HR system, say) holds about its employees. `Employee.version` is what JPA calls
@Version: an UPDATE names the version that was read, and finds no row when somebody else was faster.
"""

from __future__ import annotations

from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column


class UpstreamBase(DeclarativeBase):
    """The neighbour's tables."""


class Fact(UpstreamBase):
    """What is true of an employee. `revision` grows with each change."""

    __tablename__ = "facts"

    id: Mapped[int] = mapped_column(primary_key=True)
    department: Mapped[str]
    revision: Mapped[int]


class CompanyBase(DeclarativeBase):
    """The company's tables."""


class Employee(CompanyBase):
    """The company's copy of a fact; stale when the fact has gone on."""

    __tablename__ = "employees"

    id: Mapped[int] = mapped_column(primary_key=True)
    department: Mapped[str]
    revision: Mapped[int]
    changes: Mapped[int] = mapped_column(default=0, doc="messages applied to this row, so that each of them writes it")
    consumed: Mapped[int] = mapped_column(default=0, doc="the newest revision that a consumer, not a sync, has applied")
    fence: Mapped[int] = mapped_column(default=0, doc="the highest Redrive-Fence that has written this row")
    version: Mapped[int] = mapped_column()

    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012 - SQLAlchemy's own spelling


class Handled(CompanyBase):
    """A message that a consumer has dealt with, for the demo's count."""

    __tablename__ = "handled"

    partition: Mapped[int] = mapped_column(primary_key=True)
    offset: Mapped[int] = mapped_column(primary_key=True)
    consumer: Mapped[str]
    conflict: Mapped[bool]


class Failure(CompanyBase):
    """An employee whom a failed message was about, handed over for recovery, with the revision that failed."""

    __tablename__ = "failures"

    partition: Mapped[int] = mapped_column(primary_key=True)
    offset: Mapped[int] = mapped_column(primary_key=True)
    employee_id: Mapped[int] = mapped_column(primary_key=True)
    revision: Mapped[int]
