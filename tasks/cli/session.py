"""What commands work with: operator services or a runtime, on the ledger that the settings name."""

from __future__ import annotations

import getpass
import os
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tasks.adapters import logs
from tasks.dlq.errors import BrokerUnavailable
from tasks.dlq.services.operations import Operations
from tasks.ledger_setup import create_ledger, open_ledger
from tasks.settings import settings

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tasks.cli.output import Output
    from tasks.dlq.ledger import Ledger, Transaction
    from tasks.runtime import Runtime


@contextmanager
def read_ledger() -> Iterator[Transaction]:
    """Open a read-only transaction on the ledger. Raises as `open_ledger` does."""
    with open_ledger(settings()) as ledger, ledger.begin(read_only=True) as tx:
        yield tx


@contextmanager
def open_operations(out: Output) -> Iterator[tuple[Ledger, Operations]]:
    """Open the ledger, and the operator services on it. Raises as `open_ledger` does."""
    logs.configure("ERROR", json=out.json, secrets=settings().secrets())
    with open_ledger(settings()) as ledger:
        yield ledger, Operations(ledger, settings().routes, LazySender())


class Session:
    """A runtime whose wake-ups are sent if SQS answers."""

    def __init__(self) -> None:
        from tasks.runtime import Runtime

        self.sender = LazySender()
        self.runtime: Runtime = Runtime(settings(), self.sender)


@contextmanager
def open_session(out: Output, *, create: bool = False) -> Iterator[Session]:
    """Open a session on the ledger; `create` it if it does not exist. Raises as `open_ledger` or `create_ledger` does."""
    logs.configure("ERROR", json=out.json, secrets=settings().secrets())
    with create_ledger(settings()) if create else open_ledger(settings()):
        pass
    session = Session()
    try:
        yield session
    finally:
        session.runtime.close()


class LazySender:
    """Sends wake-ups by Celery, which is imported for the first one. After one that fails, no other is tried."""

    def __init__(self) -> None:
        #: Why wake-ups were not sent, if so.
        self.error: BrokerUnavailable | None = None

    def send(self, job_id: int, *, delay: float) -> None:
        """Send one wake-up. Raises BrokerUnavailable."""
        if self.error:
            raise self.error.with_traceback(None)  # the traceback would grow each time, and keep what it refers to
        from tasks.celery import app
        from tasks.worker.delivery import CeleryWakeupSender

        try:
            CeleryWakeupSender(app).send(job_id, delay=delay)
        except BrokerUnavailable as error:
            self.error = error
            raise


def get_actor() -> str:
    """Return who runs the command, for the audit log: "alice@host"."""
    try:
        name = getpass.getuser()
    except (KeyError, OSError):  # a container's user without a name
        name = f"uid {os.getuid()}"
    return f"{name}@{socket.gethostname()}"[:100]
