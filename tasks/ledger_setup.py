"""Opens, creates and upgrades the ledger that the settings name."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from alembic.util import CommandError
from sqlalchemy.engine import make_url

from tasks.dlq.errors import LedgerOutdated
from tasks.dlq.ledger import Ledger, migrations
from tasks.dlq.ledger.engine import LOST
from tasks.settings import directory

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tasks.settings import Settings

_HINT = f"{LOST}; else run: redrive db upgrade, or start a worker; `redrive config` shows where Redrive looks for the ledger"


class Upgrade(NamedTuple):
    """What an upgrade did."""

    #: The ledger's URL without its password.
    where: str
    #: The schema's revision before; None if the database was empty.
    before: str | None
    #: The schema's revision now.
    after: str | None


@contextmanager
def open_ledger(settings: Settings) -> Iterator[Ledger]:
    """Open the existing ledger.

    Raises:
        ConfigError: the state directory is not a directory.
        LedgerOutdated: there is no ledger, it is empty, or it has another schema than this version's.
        LedgerUnavailable: the database does not answer.
    """
    prepare_state_directory(settings, create=False)
    url = make_url(settings.ledger.url)
    where = url.render_as_string(hide_password=True)
    if url.get_backend_name() == "sqlite" and url.database and not os.path.exists(url.database):  # noqa: PTH110 - Path.exists raises if a parent may not be read
        raise LedgerOutdated(f"there is no ledger at {where} yet", hint=_HINT)
    with _connected(settings) as ledger:
        if migrations.revision(ledger) is None:
            raise LedgerOutdated(f"the ledger at {where} is empty", hint=_HINT)
        migrations.check(ledger)
        yield ledger


@contextmanager
def create_ledger(settings: Settings) -> Iterator[Ledger]:
    """Open the ledger; create its tables if the database is empty. An older schema is left for `upgrade_ledger`.

    Raises:
        ConfigError: the state directory cannot be created or written to.
        LedgerOutdated: it has another schema than this version's.
        LedgerUnavailable: the database does not answer.
    """
    prepare_state_directory(settings, create=True)
    with _connected(settings) as ledger:
        if migrations.revision(ledger) is None:
            migrations.upgrade(ledger)
        migrations.check(ledger)
        yield ledger


def upgrade_ledger(settings: Settings) -> Upgrade:
    """Create the ledger's tables, or bring them to this version's schema.

    Raises:
        ConfigError: the state directory cannot be created or written to.
        LedgerOutdated: a newer version has written the schema.
        LedgerUnavailable: the database does not answer.
    """
    prepare_state_directory(settings, create=True)
    where = make_url(settings.ledger.url).render_as_string(hide_password=True)
    with _connected(settings) as ledger:
        try:
            before, after = migrations.upgrade(ledger)
        except CommandError as error:
            raise LedgerOutdated(
                f"the ledger at {where} has a schema that this version does not know: {error}",
                hint="a newer Redrive wrote it: install that version",
            ) from error
    return Upgrade(where, before, after)


@contextmanager
def _connected(settings: Settings) -> Iterator[Ledger]:
    ledger = Ledger(settings.ledger.url)
    try:
        yield ledger
    finally:
        ledger.close()


def prepare_state_directory(settings: Settings, *, create: bool) -> None:
    """Check the state directory first if it holds the ledger: its errors are clearer than the database's."""
    if settings.is_set("ledger", "url"):
        return
    if create:
        directory.make(settings.state_path)
    else:
        directory.check(settings.state_path)
