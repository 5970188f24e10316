"""The watch: what people should be told, kept in the ledger so that many workers and restarts tell it once.

An alert begins when its trouble is there, lives on silently while the trouble lasts (its count follows), and is over when the
trouble is gone. Beginning and end are changes of state with a revision of their own; each revision is told once: see `telling`.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, select, update

from tasks.dlq.alerts.alert import FIRING, OVER
from tasks.dlq.alerts.detection import Burst, troubles
from tasks.dlq.alerts.text import over_words
from tasks.dlq.ledger.schema import alerts

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from sqlalchemy import Row

    from tasks.dlq.alerts.alert import Alert
    from tasks.dlq.ledger import Ledger, Transaction

__all__ = ["Burst", "Changes", "Watched", "compare", "watch"]

#: Milliseconds that an alert is remembered after it was over and told.
KEPT = 30 * 24 * 3600 * 1000


@dataclass(frozen=True, kw_only=True)
class Watched:
    """What a watch changed: alerts that began, and alerts that are over."""

    began: int = 0
    over: int = 0


@dataclass(frozen=True, kw_only=True)
class Changes:
    """What has to be written: alerts that begin, those that go on with another count, and rows that are over."""

    begin: Sequence[Alert] = ()
    go_on: Sequence[Alert] = ()
    over: Sequence[Row[Any]] = ()


def watch(ledger: Ledger, *, burst: Burst) -> Watched:
    """Look for trouble and keep what changed; telling it is `telling.Teller`'s. Cheap enough for the end of a slice.

    Raises:
        LedgerUnavailable: the ledger does not answer; the next sweep looks again.
    """
    with ledger.begin(read_only=True) as tx:  # looking takes no lock that a claim would wait for
        firing = {row.fingerprint: row for row in tx.connection.execute(select(alerts).where(alerts.c.state == FIRING))}
        changes = compare(firing, troubles(tx, burst, firing.keys()))
    return ledger.transact(lambda tx: _write(tx, changes))


def compare(firing: Mapping[str, Row[Any]], found: Iterable[Alert]) -> Changes:
    """Return what differs between the alerts that are firing, by fingerprint, and the trouble found now."""
    present = {alert.fingerprint: alert for alert in found}
    return Changes(
        begin=[alert for fingerprint, alert in present.items() if fingerprint not in firing],
        go_on=[
            alert for alert in present.values() if alert.fingerprint in firing and alert.text != firing[alert.fingerprint].text
        ],
        over=[row for fingerprint, row in firing.items() if fingerprint not in present],
    )


def _write(tx: Transaction, changes: Changes) -> Watched:
    now = tx.now()
    watched = Watched(
        began=sum(_begin(tx, alert, now) for alert in changes.begin),
        over=sum(_end(tx, row, now) for row in changes.over),
    )
    for alert in changes.go_on:
        going_on = update(alerts).where(alerts.c.fingerprint == alert.fingerprint, alerts.c.state == FIRING)
        tx.connection.execute(going_on.values(_words(alert)))
    tx.connection.execute(delete(alerts).where(alerts.c.state == OVER, alerts.c.changed_at < now - KEPT, alerts.c.told))
    return watched


def _begin(tx: Transaction, alert: Alert, now: int) -> bool:
    """Let the alert fire; False when another watch was faster."""
    values = _words(alert) | {"state": FIRING, "began_at": now, "changed_at": now, "told": False, "told_by": ""}
    known = {"fingerprint": alert.fingerprint, "kind": alert.kind, "route": alert.route}
    statement = tx.insert(alerts).values(known | values)
    statement = statement.on_conflict_do_update(
        index_elements=["fingerprint"], set_=values | {"revision": alerts.c.revision + 1}, where=alerts.c.state == OVER
    )
    return tx.connection.execute(statement.returning(alerts.c.fingerprint)).one_or_none() is not None


def _end(tx: Transaction, row: Row[Any], now: int) -> bool:
    """Let the alert be over; False when another watch was faster."""
    title, text = over_words(row.kind, row.route, json.loads(row.facts), row.began_at)
    statement = (
        update(alerts)
        .where(alerts.c.fingerprint == row.fingerprint, alerts.c.state == FIRING, alerts.c.revision == row.revision)
        .values(state=OVER, title=title, text=text, count=0, changed_at=now, revision=row.revision + 1, told=False, told_by="")
    )
    return bool(tx.connection.execute(statement).rowcount)


def _words(alert: Alert) -> dict[str, Any]:
    return {"title": alert.title, "text": alert.text, "count": alert.count, "facts": json.dumps(dict(alert.facts))}
