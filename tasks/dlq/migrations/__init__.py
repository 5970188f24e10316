"""The ledger's migrations: `upgrade` brings a ledger to the schema that this version writes."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from tasks.dlq.errors import LedgerOutdated

if TYPE_CHECKING:
    from tasks.dlq.ledger import Ledger


def upgrade(ledger: Ledger) -> tuple[str | None, str | None]:
    """Migrate the ledger; return its revision before and after. Does nothing when they are the same."""
    before = revision(ledger)
    with ledger.begin() as tx:
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
