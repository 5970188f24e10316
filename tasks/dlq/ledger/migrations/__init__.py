"""The ledger's migrations: `upgrade` brings a ledger to the schema that this version writes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import func, select

from tasks.dlq.errors import LedgerNewer, LedgerOutdated
from tasks.dlq.ledger.engine import CREATE, UPGRADE

if TYPE_CHECKING:
    from tasks.dlq.ledger import Ledger

#: PostgreSQL's advisory lock for migrations: any number that nobody else uses in this database.
_ONE_AT_A_TIME = 0x52454452495645


def upgrade(ledger: Ledger) -> tuple[str | None, str | None]:
    """Migrate the ledger; return its revision before and after. Does nothing if they are the same.

    Processes that start at the same time do it one after the other. Raises LedgerNewer.
    """
    before = revision(ledger)
    _refuse_newer(ledger, before)
    with ledger.begin() as tx:
        if tx.connection.dialect.name == "postgresql":  # SQLite's writers stand in line by nature
            tx.connection.execute(select(func.pg_advisory_xact_lock(_ONE_AT_A_TIME)))
        config = _config()
        config.attributes["connection"] = tx.connection
        command.upgrade(config, "head")
    return before, revision(ledger)


def check(ledger: Ledger) -> None:
    """Raise LedgerOutdated or LedgerNewer unless the ledger has this version's schema."""
    have = revision(ledger)
    _refuse_newer(ledger, have)
    if have is None:
        raise LedgerOutdated(f"the ledger at {_locate(ledger)} is empty", hint=CREATE)
    if have != head():
        raise LedgerOutdated(f"the schema of the ledger is {have}, this version needs {head()}", hint=UPGRADE)


def revision(ledger: Ledger) -> str | None:
    """Return the ledger's revision; None for an empty database."""
    with ledger.begin(read_only=True) as tx:
        return MigrationContext.configure(tx.connection).get_current_revision()


def head() -> str | None:
    """Return the revision that this version writes."""
    return ScriptDirectory.from_config(_config()).get_current_head()


def _refuse_newer(ledger: Ledger, have: str | None) -> None:
    known = {script.revision for script in ScriptDirectory.from_config(_config()).walk_revisions()}
    if have is not None and have not in known:
        message = f"the ledger at {_locate(ledger)} has the schema {have}, this version knows {head()} and older ones"
        raise LedgerNewer(message, hint="a newer Redrive wrote it: install that version")


def _locate(ledger: Ledger) -> str:
    return ledger.engine.url.render_as_string(hide_password=True)


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent))
    return config
