"""Opens, creates and upgrades the ledger that the settings name."""

from __future__ import annotations

import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

from sqlalchemy.engine import make_url

from tasks.dlq.errors import LedgerOutdated
from tasks.dlq.ledger import Ledger, migrations
from tasks.dlq.ledger.engine import CREATE
from tasks.settings import directory

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tasks.settings import Settings


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
        LedgerOutdated: there is no ledger, it is empty, or its schema is older than this version's.
        LedgerNewer: a newer version wrote the schema.
        LedgerUnavailable: the database does not answer.
    """
    prepare_state_directory(settings, create=False)
    url = make_url(settings.ledger.url)
    where = url.render_as_string(hide_password=True)
    if url.get_backend_name() == "sqlite" and url.database and not os.path.exists(url.database):  # noqa: PTH110 - Path.exists raises if a parent may not be read
        raise LedgerOutdated(f"there is no ledger at {where} yet", hint=f"{CREATE}; `redrive config` shows ledger.url")
    with _connected(settings) as ledger:
        migrations.check(ledger)
        yield ledger


@contextmanager
def create_ledger(settings: Settings) -> Iterator[Ledger]:
    """Open the ledger; create its tables if the database is empty. An older schema is left for `upgrade_ledger`.

    Raises:
        ConfigError: the state directory cannot be created or written to.
        LedgerOutdated: its schema is older than this version's.
        LedgerNewer: a newer version wrote the schema.
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
        LedgerNewer: a newer version wrote the schema.
        LedgerUnavailable: the database does not answer.
    """
    prepare_state_directory(settings, create=True)
    where = make_url(settings.ledger.url).render_as_string(hide_password=True)
    with _connected(settings) as ledger:
        before, after = migrations.upgrade(ledger)
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
