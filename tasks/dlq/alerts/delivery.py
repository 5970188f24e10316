"""The delivery of alerts to the sinks: each revision to each sink at least once, and normally exactly once.

A process leases an alert, sends it outside of any transaction, and records which sinks took it. A sink that failed gets it
again after `RETRY`; the others do not. If the process dies, another one delivers the alert after `LEASE`. If the alert's state
changes during a delivery, the new revision is delivered afterwards.
"""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING

import structlog
from sqlalchemy import false, select, update

from tasks.dlq.alerts.state import alert_of
from tasks.dlq.ledger.schema import alerts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import RowMapping

    from tasks.dlq.alerts.alert import Alert, AlertSink
    from tasks.dlq.ledger import Ledger, Transaction

log = structlog.get_logger("redrive.alerts")

#: Milliseconds that a process may take to send one alert to all sinks.
LEASE = 120_000
#: Milliseconds until a sink that failed is tried again.
RETRY = 20_000
#: Alerts that one call of `deliver` takes.
BATCH = 100


class Notifier:
    """Delivers in a background thread, so that no sink delays a job. There is one in each process."""

    def __init__(self, ledger: Ledger, sinks: Sequence[AlertSink]) -> None:
        self._ledger = ledger
        self._sinks = [TimeLimitedSink(sink) for sink in sinks]
        self._awake = threading.Event()
        self._closing = False
        self._thread: threading.Thread | None = None

    def wake(self) -> None:
        """Deliver what is due, and return at once."""
        self._awake.set()
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._run, name="redrive-notifier", daemon=True)
            self._thread.start()

    def close(self, *, timeout: float = 2.0) -> None:
        """End the thread; wait up to `timeout` seconds for its delivery. An undelivered alert stays in the ledger."""
        self._closing = True
        self._awake.set()
        if self._thread is not None:
            self._thread.join(timeout)

    def _run(self) -> None:
        while self._awake.wait() and not self._closing:
            self._awake.clear()
            try:
                deliver(self._ledger, self._sinks)
            except Exception as error:  # noqa: BLE001 - the next sweep wakes the thread again, when the ledger may answer
                log.warning("alert_delivery_postponed", error=str(error))


def deliver(ledger: Ledger, sinks: Sequence[AlertSink]) -> None:
    """Send each alert that is due to the sinks that have not taken it. After a failure, a sink gets no further alert this time.

    Raises:
        LedgerUnavailable: the ledger does not answer. An alert that was sent but not recorded is sent again later.
    """
    failed: set[str] = set()
    for _ in range(BATCH):
        row = ledger.transact(_lease)
        if row is None:
            break
        taken_by = row["delivered_by"].split()
        for sink in sinks:
            if sink.name in taken_by or sink.name in failed:
                continue
            if _is_taken(sink, alert_of(row)):
                taken_by.append(sink.name)
            else:
                failed.add(sink.name)
                log.warning("alert_delivery_failed", sink=sink.name, fingerprint=row["fingerprint"])
        complete = all(sink.name in taken_by for sink in sinks)
        ledger.transact(partial(_record, row=row, taken_by=taken_by, complete=complete))
        if sinks and len(failed) == len(sinks):
            break


class TimeLimitedSink:
    """Waits for a sink for at most `timeout` seconds in total: the sink's own timeouts may be per read.

    While a call hangs, the sink gets no other call.
    """

    def __init__(self, sink: AlertSink, *, timeout: float = 10.0) -> None:
        self.name = sink.name
        self._sink = sink
        self._timeout = timeout
        self._thread: threading.Thread | None = None

    def send(self, alert: Alert) -> bool:
        if self._thread is not None and self._thread.is_alive():
            return False
        results: list[bool] = []
        self._thread = threading.Thread(target=self._send, args=(alert, results), name=f"redrive-{self.name}", daemon=True)
        self._thread.start()
        self._thread.join(self._timeout)
        if not results:
            log.warning("alert_sink_hung", sink=self.name, seconds=self._timeout)
        return results == [True]

    def _send(self, alert: Alert, results: list[bool]) -> None:
        results.append(_is_taken(self._sink, alert))


def _is_taken(sink: AlertSink, alert: Alert) -> bool:
    """Send the alert to the sink and return whether it took the alert."""
    try:
        return sink.send(alert)
    except Exception as error:  # noqa: BLE001 - no sink fails a job
        log.warning("alert_sink_failed", sink=sink.name, error=type(error).__name__)  # the message may hold the sink's URL
        return False


def _lease(tx: Transaction) -> RowMapping | None:
    """Take the alert that is due and changed first, for `LEASE`."""
    now = tx.now()
    due = (
        select(alerts.c.fingerprint)
        .where(alerts.c.delivered == false(), alerts.c.deliver_after <= now)
        .order_by(alerts.c.changed_at, alerts.c.fingerprint)
        .limit(1)
        .with_for_update(skip_locked=True)
        .scalar_subquery()
    )
    statement = update(alerts).where(alerts.c.fingerprint == due).values(deliver_after=now + LEASE).returning(*alerts.c)
    return tx.connection.execute(statement).mappings().one_or_none()


def _record(tx: Transaction, *, row: RowMapping, taken_by: Sequence[str], complete: bool) -> None:
    """Record which sinks took this revision. If there is a new revision, make it due: no sink has it."""
    leased = (alerts.c.fingerprint == row["fingerprint"], alerts.c.deliver_after == row["deliver_after"])
    result = {
        "delivered": complete,
        "delivered_by": " ".join(taken_by),
        "deliver_after": 0 if complete else tx.now() + RETRY,
    }
    same_revision = update(alerts).where(*leased, alerts.c.revision == row["revision"])
    if not tx.connection.execute(same_revision.values(result)).rowcount:
        tx.connection.execute(update(alerts).where(*leased).values(deliver_after=0))
