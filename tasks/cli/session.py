"""What commands work with: the ledger as it stands, or a runtime that rings as well. Closed when the command ends."""

from __future__ import annotations

import getpass
import os
import socket
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING

from sqlalchemy.engine import make_url

from tasks.adapters import logs
from tasks.dlq import migrations
from tasks.dlq.errors import BrokerUnavailable, LedgerOutdated
from tasks.dlq.ledger import Ledger, bells
from tasks.dlq.ledger.engine import LOST
from tasks.dlq.ledger.queries import route_states
from tasks.dlq.waking import ring_all
from tasks.settings import directory, settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tasks.cli.output import Output
    from tasks.dlq.job import Wakeup
    from tasks.dlq.ledger import Transaction
    from tasks.runtime import Runtime

_HINT = f"{LOST}; else run: redrive db upgrade, or start a worker; `redrive config` tells where the ledger is looked for"


def ensure_state_dir(*, create: bool) -> None:
    """See that the state directory can hold the ledger, where that is its place: else its error would be about the ledger.

    Raises:
        ConfigError: it is no directory, or, with `create`, cannot be made or written to.
    """
    if settings().describe()["settings"]["ledger.url"]["from"] == "default":
        (directory.make if create else directory.check)(settings().state_path)


@contextmanager
def existing_ledger() -> Iterator[Ledger]:
    """Open the ledger for a command that does not make one.

    Raises:
        ConfigError: the state directory is none.
        LedgerOutdated: it is empty, or not of this version's schema.
        LedgerUnavailable: the database does not answer.
    """
    ensure_state_dir(create=False)
    url = make_url(settings().ledger.url)
    where = url.render_as_string(hide_password=True)
    if url.get_backend_name() == "sqlite" and url.database and not os.path.exists(url.database):  # noqa: PTH110 - Path's raises where it may not look
        raise LedgerOutdated(f"there is no ledger at {where} yet", hint=_HINT)
    ledger = Ledger(settings().ledger.url)
    try:
        if migrations.revision(ledger) is None:
            raise LedgerOutdated(f"the ledger at {where} is empty", hint=_HINT)
        migrations.check(ledger)
        yield ledger
    finally:
        ledger.close()


class Session:
    """A runtime, and wake-ups that are sent if possible: what is in the ledger waits for a sweep when SQS is away."""

    def __init__(self) -> None:
        from tasks.runtime import Runtime

        self._bell = _Bell()
        self.touched: set[str] = set()  # routes
        self.runtime: Runtime = Runtime(settings(), self._bell)

    def wake(self, route: str, job_ids: Sequence[int]) -> None:
        """Ring for jobs that have just become due, as far as the route's window has room."""
        self.touched.add(route)
        self.ring(partial(bells.reserve, route=settings().route(route), job_ids=job_ids))

    def ring(self, reserve: Callable[[Transaction], list[Wakeup]]) -> None:
        """Ring for what `reserve` puts into the window."""
        ring_all(self.runtime.ledger, self._bell, self.runtime.ledger.transact(reserve))

    def paused(self) -> list[str]:
        """Return which of the routes touched are paused."""
        if not self.touched:
            return []
        with self.runtime.ledger.begin(read_only=True) as tx:
            return [state["route"] for state in route_states(tx) if state["paused"] and state["route"] in self.touched]

    @property
    def unsent(self) -> BrokerUnavailable | None:
        """Why a wake-up was not sent, when one was not."""
        return self._bell.unsent


@contextmanager
def ringing(out: Output, *, create: bool = False) -> Iterator[Session]:
    """Open a session on the ledger that is there; or on a new one, with `create`. At the end, tell when nobody was woken.

    Raises:
        ConfigError, LedgerOutdated, LedgerUnavailable: as `existing_ledger`.
    """
    logs.configure("ERROR", json=out.json, secrets=settings().secrets())
    if create:
        ensure_state_dir(create=True)
    session = Session()
    try:
        if create:
            session.runtime.ensure_ledger()
        else:
            with existing_ledger():
                pass
        yield session
        for route in session.paused():
            out.note(f"{route} is paused: no call is made until redrive resume {route}")
    finally:
        session.runtime.close()
    if session.unsent:
        out.warn(f"it is in the ledger, but {session.unsent.message}", hint="beat's next sweep rings again")


class _Bell:
    """The Celery doorbell, with Celery imported at the first ring."""

    def __init__(self) -> None:
        self.unsent: BrokerUnavailable | None = None

    def ring(self, job_id: int, *, delay: float) -> None:
        """Send one wake-up; after the first that fails, no other is tried. Raises BrokerUnavailable."""
        if self.unsent:
            raise self.unsent.with_traceback(None)  # it would grow with each ring, and hold what each was about
        from tasks.celery import app
        from tasks.delivery import CeleryDoorbell

        try:
            CeleryDoorbell(app).ring(job_id, delay=delay)
        except BrokerUnavailable as error:
            self.unsent = error
            raise


def actor() -> str:
    """Return who acts, for the audit log: "alice@host"."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        name = f"uid {os.getuid()}"
    return f"{name}@{socket.gethostname()}"[:100]
