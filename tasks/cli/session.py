"""What commands work with: the ledger as it stands, or a runtime that rings as well. Closed when the command ends."""

from __future__ import annotations

import getpass
import os
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tasks.adapters import logs
from tasks.dlq.errors import BrokerUnavailable
from tasks.dlq.ledger.queries import route_states
from tasks.dlq.ledger.routes import lock_route
from tasks.dlq.ledger.wakeups import reserve_wakeups
from tasks.dlq.services.wakeups import send_wakeups
from tasks.ledger_setup import create_ledger, open_ledger
from tasks.settings import settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tasks.cli.output import Output
    from tasks.dlq.job import Wakeup
    from tasks.dlq.ledger import Transaction
    from tasks.runtime import Runtime


class Session:
    """A runtime, and wake-ups that are sent if possible: what is in the ledger waits for a sweep when SQS is away."""

    def __init__(self) -> None:
        from tasks.runtime import Runtime

        self._sender = _Sender()
        self.touched: set[str] = set()  # routes
        self.runtime: Runtime = Runtime(settings(), self._sender)

    def wake(self, route: str, job_ids: Sequence[int]) -> None:
        """Send wake-ups for jobs that have just become due, as far as the route's window has room."""
        self.touched.add(route)
        target = settings().route(route)
        self.send(lambda tx: reserve_wakeups(lock_route(tx, target), job_ids))

    def send(self, reserve: Callable[[Transaction], list[Wakeup]]) -> None:
        """Send the wake-ups that `reserve` puts into the window."""
        send_wakeups(self.runtime.ledger, self._sender, self.runtime.ledger.transact(reserve))

    def paused(self) -> list[str]:
        """Return which of the routes touched are paused."""
        if not self.touched:
            return []
        with self.runtime.ledger.begin(read_only=True) as tx:
            return [state["route"] for state in route_states(tx) if state["paused"] and state["route"] in self.touched]

    @property
    def unsent(self) -> BrokerUnavailable | None:
        """Why a wake-up was not sent, when one was not."""
        return self._sender.unsent


@contextmanager
def ringing(out: Output, *, create: bool = False) -> Iterator[Session]:
    """Open a session on the ledger that is there; or on a new one, with `create`. At the end, tell when nobody was woken.

    Raises:
        ConfigError, LedgerOutdated, LedgerUnavailable: as `open_ledger`.
    """
    logs.configure("ERROR", json=out.json, secrets=settings().secrets())
    session = Session()
    try:
        with (create_ledger if create else open_ledger)(settings()):
            pass
        yield session
        for route in session.paused():
            out.note(f"{route} is paused: no call is made until redrive resume {route}")
    finally:
        session.runtime.close()
    if session.unsent:
        out.warn(f"it is in the ledger, but {session.unsent.message}", hint="beat's next sweep rings again")


class _Sender:
    """Sends wake-ups by Celery, which is imported at the first one."""

    def __init__(self) -> None:
        self.unsent: BrokerUnavailable | None = None

    def send(self, job_id: int, *, delay: float) -> None:
        """Send one wake-up; after the first that fails, no other is tried. Raises BrokerUnavailable."""
        if self.unsent:
            raise self.unsent.with_traceback(None)  # it would grow each time it is raised
        from tasks.celery import app
        from tasks.worker.delivery import CeleryWakeupSender

        try:
            CeleryWakeupSender(app).send(job_id, delay=delay)
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
