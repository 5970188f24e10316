"""The state of alerts in the ledger, shared by all workers and kept over restarts.

An alert begins when its condition is detected and is over when the condition is gone. Both are changes of state with a revision
of their own. While an alert fires, its texts and its count are updated in silence.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, select, true, update

from tasks.dlq.alerts.alert import Alert, AlertState, Severity
from tasks.dlq.ledger.schema import alerts

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from sqlalchemy import RowMapping

    from tasks.dlq.alerts.kinds import AlertKind
    from tasks.dlq.ledger import Ledger, Transaction

#: Milliseconds that an alert is kept after it was over and delivered.
RETENTION = 30 * 24 * 3600 * 1000


@dataclass(frozen=True, kw_only=True)
class Changes:
    """The differences between the alerts that fire and the conditions that hold now."""

    begun: Sequence[Alert] = ()
    #: Alerts that still fire, with another text.
    updated: Sequence[Alert] = ()
    #: Rows of alerts whose condition is gone.
    over: Sequence[RowMapping] = ()


def update_alerts(ledger: Ledger, kinds: Sequence[AlertKind]) -> None:
    """Detect the conditions of these kinds and write what has changed. This is cheap enough for the end of a slice.

    Alerts of other kinds stay as they are: workers of another version may know them.

    Raises:
        LedgerUnavailable: the ledger does not answer; the next sweep tries again.
    """
    ours = alerts.c.kind.in_([kind.name for kind in kinds])
    with ledger.begin(read_only=True) as tx:  # takes no lock that a claim would wait for
        rows = tx.connection.execute(select(alerts).where(alerts.c.state == AlertState.FIRING, ours)).mappings()
        firing = {row["fingerprint"]: row for row in rows}
        changes = compare(firing, [alert for kind in kinds for alert in kind.detect(tx)])
    ledger.transact(lambda tx: _write(tx, changes))


def compare(firing: Mapping[str, RowMapping], detected: Iterable[Alert]) -> Changes:
    """Return the differences between the rows of firing alerts, by fingerprint, and the alerts detected now."""
    present = {alert.fingerprint: alert for alert in detected}
    return Changes(
        begun=[alert for fingerprint, alert in present.items() if fingerprint not in firing],
        updated=[
            alert for fingerprint, alert in present.items() if fingerprint in firing and alert.text != firing[fingerprint]["text"]
        ],
        over=[row for fingerprint, row in firing.items() if fingerprint not in present],
    )


def alert_of(row: RowMapping) -> Alert:
    """Return the alert in a row, as its present revision is delivered."""
    return Alert(
        kind=row["kind"],
        severity=Severity(row["severity"]),
        fingerprint=row["fingerprint"],
        subject=row["subject"],
        title=row["title"],
        text=row["text"],
        over_text=row["over_text"],
        over=row["state"] == AlertState.OVER,
        count=row["count"],
        facts=json.loads(row["facts"]),
    )


def _write(tx: Transaction, changes: Changes) -> None:
    now = tx.now()
    for alert in changes.begun:
        _begin(tx, alert, now)
    for alert in changes.updated:
        still_firing = (alerts.c.fingerprint == alert.fingerprint, alerts.c.state == AlertState.FIRING)
        tx.connection.execute(update(alerts).where(*still_firing).values(_content(alert)))
    for row in changes.over:
        _end(tx, row, now)
    expired = (alerts.c.state == AlertState.OVER, alerts.c.changed_at < now - RETENTION, alerts.c.delivered == true())
    tx.connection.execute(delete(alerts).where(*expired))


def _begin(tx: Transaction, alert: Alert, now: int) -> None:
    """Let the alert fire, unless another process was first."""
    values = _content(alert) | _undelivered(AlertState.FIRING, now) | {"began_at": now}
    statement = tx.insert(alerts).values({"fingerprint": alert.fingerprint} | values)
    once_more = values | {"revision": alerts.c.revision + 1}
    is_over = alerts.c.state == AlertState.OVER
    tx.connection.execute(statement.on_conflict_do_update(index_elements=["fingerprint"], set_=once_more, where=is_over))


def _end(tx: Transaction, row: RowMapping, now: int) -> None:
    """Let the alert be over, unless another process was first."""
    values = _content(alert_of(row).ended(row["began_at"])) | _undelivered(AlertState.OVER, now)
    unchanged = (alerts.c.fingerprint == row["fingerprint"], alerts.c.revision == row["revision"])
    tx.connection.execute(update(alerts).where(*unchanged).values(values | {"revision": row["revision"] + 1}))


def _content(alert: Alert) -> dict[str, Any]:
    return {
        "kind": alert.kind,
        "severity": alert.severity,
        "subject": alert.subject,
        "title": alert.title,
        "text": alert.text,
        "over_text": alert.over_text,
        "count": alert.count,
        "facts": json.dumps(dict(alert.facts)),
    }


def _undelivered(state: AlertState, now: int) -> dict[str, Any]:
    return {"state": state, "changed_at": now, "delivered": False, "delivered_by": ""}
