"""The telling: alerts out of the ledger to the sinks, each revision to each sink at least once, and as a rule once.

One teller at a time has an alert, by a lease: it sends outside of any transaction and then notes who took it. A sink that failed
is asked again after `RETRY`, without repeating to those that took it; a teller that dies leaves its alert to the next one after
`LEASE`. When the state changes while it is being told, the new revision is told afterwards.
"""

from __future__ import annotations

import json
import logging
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import false, select, update

from tasks.dlq.alerts.alert import OVER, Alert
from tasks.dlq.ledger.schema import alerts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import RowMapping

    from tasks.dlq.alerts.alert import AlertSink
    from tasks.dlq.ledger import Ledger, Transaction

log = logging.getLogger(__name__)

#: Milliseconds that a teller has an alert: longer than all sinks may take for one.
LEASE = 120_000
#: Milliseconds until a sink that failed is asked again.
RETRY = 20_000
#: Alerts told in one go.
AT_ONCE = 100


@dataclass(frozen=True, kw_only=True)
class Told:
    """How many alerts all sinks have taken, and how many wait for a sink."""

    told: int = 0
    waiting: int = 0


class Teller:
    """Tells in the background, so that no sink keeps a job waiting. One per process; its thread starts at the first `wake`."""

    def __init__(self, ledger: Ledger, sinks: Sequence[AlertSink]) -> None:
        self._ledger = ledger
        self._sinks = sinks
        self._awake = threading.Event()
        self._closing = False
        self._thread: threading.Thread | None = None

    def wake(self) -> None:
        """Have told what is untold; return at once."""
        self._awake.set()
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._run, name="redrive-teller", daemon=True)
            self._thread.start()

    def close(self, *, patience: float = 2.0) -> None:
        """End the thread, waiting up to `patience` seconds for what is being told. What is untold stays so in the ledger."""
        self._closing = True
        self._awake.set()
        if self._thread is not None:
            self._thread.join(patience)

    def _run(self) -> None:
        while self._awake.wait() and not self._closing:
            self._awake.clear()
            try:
                tell(self._ledger, self._sinks)
            except Exception as error:  # noqa: BLE001 - the thread must outlive a ledger that is away; the next sweep wakes it again
                log.warning("alerts could not be told: %s", error)


def tell(ledger: Ledger, sinks: Sequence[AlertSink]) -> Told:
    """Send every untold alert to the sinks that have not taken it yet. A sink that fails is left alone for the rest of this go.

    Raises:
        LedgerUnavailable: the ledger does not answer; what was sent but not noted is sent again later.
    """
    down: set[str] = set()
    told = waiting = 0
    for _ in range(AT_ONCE):
        row = ledger.transact(_lease)
        if row is None:
            break
        took = row["told_by"].split()
        for sink in sinks:
            if sink.name in took or sink.name in down:
                continue
            if _send(sink, row):
                took.append(sink.name)
            else:
                down.add(sink.name)
        complete = all(sink.name in took for sink in sinks)
        ledger.transact(lambda tx, row=row, took=took, complete=complete: _note(tx, row, took, complete=complete))  # type: ignore[misc]
        told, waiting = told + complete, waiting + (not complete)
        if sinks and len(down) == len(sinks):
            break
    return Told(told=told, waiting=waiting)


def _send(sink: AlertSink, row: RowMapping) -> bool:
    alert = Alert(
        kind=row["kind"],
        fingerprint=row["fingerprint"],
        title=row["title"],
        text=row["text"],
        route=row["route"],
        over=row["state"] == OVER,
        count=row["count"],
        facts=json.loads(row["facts"]),
    )
    try:
        return sink.send(alert)
    except Exception as error:  # noqa: BLE001 - whatever a sink does is its own affair
        log.warning("alert sink %s failed: %s", sink.name, type(error).__name__)  # its message may hold the sink's URL
        return False


def _lease(tx: Transaction) -> RowMapping | None:
    """Take the untold alert that changed first, for `LEASE`."""
    now = tx.now()
    untold = (
        select(alerts.c.fingerprint)
        .where(alerts.c.told == false(), alerts.c.tell_after <= now)
        .order_by(alerts.c.changed_at, alerts.c.fingerprint)
        .limit(1)
        .with_for_update(skip_locked=True)
        .scalar_subquery()
    )
    statement = update(alerts).where(alerts.c.fingerprint == untold).values(tell_after=now + LEASE).returning(*alerts.c)
    return tx.connection.execute(statement).mappings().one_or_none()


def _note(tx: Transaction, row: RowMapping, took: Sequence[str], *, complete: bool) -> None:
    """Note who took the alert, unless its state has changed meanwhile: then nobody has taken that yet."""
    mine = (alerts.c.fingerprint == row["fingerprint"], alerts.c.tell_after == row["tell_after"])
    later = 0 if complete else tx.now() + RETRY
    noted = update(alerts).where(*mine, alerts.c.revision == row["revision"])
    if not tx.connection.execute(noted.values(told=complete, told_by=" ".join(took), tell_after=later)).rowcount:
        tx.connection.execute(update(alerts).where(*mine).values(tell_after=0))
