"""The ledger's migrations: `upgrade` brings a ledger to the schema that this version writes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import func, select

from tasks.dlq.errors import LedgerOutdated

if TYPE_CHECKING:
    from tasks.dlq.ledger import Ledger

#: PostgreSQL's advisory lock for migrations: any number that nobody else uses in this database.
_ONE_AT_A_TIME = 0x52454452495645


def upgrade(ledger: Ledger) -> tuple[str | None, str | None]:
    """Migrate the ledger; return its revision before and after. Does nothing when they are the same.

    Processes that start at once do it one after the other: who comes second finds it done.
    """
    before = revision(ledger)
    with ledger.begin() as tx:
        if tx.connection.dialect.name == "postgresql":  # SQLite's writers stand in line by nature
            tx.connection.execute(select(func.pg_advisory_xact_lock(_ONE_AT_A_TIME)))
        config = _config()
        config.attributes["connection"] = tx.connection
        command.upgrade(config, "head")
    return before, revision(ledger)


def check(ledger: Ledger) -> None:
    """Raise LedgerOutdated unless the ledger has the schema that this version writes."""
    have, want = revision(ledger), head()
    if have != want:
        message = f"the ledger's schema is {have or 'empty'}, this version needs {want}"
        raise LedgerOutdated(message, hint="run: redrive db upgrade")


def revision(ledger: Ledger) -> str | None:
    """Return the ledger's revision; None for an empty database."""
    with ledger.begin(read_only=True) as tx:
        return MigrationContext.configure(tx.connection).get_current_revision()


def head() -> str | None:
    """Return the revision that this version writes."""
    return ScriptDirectory.from_config(_config()).get_current_head()


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    return config
