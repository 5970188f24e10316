"""A ledger in which the tests of alerts create conditions, and a sink that records alerts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ledger_bench import Bench, a_database
from sqlalchemy import select, update

from tasks.dlq.alerts.delivery import deliver
from tasks.dlq.alerts.kinds import FailureBurst, alert_kinds
from tasks.dlq.alerts.state import update_alerts
from tasks.dlq.ledger.schema import alerts, attempts, jobs

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from tasks.dlq.alerts.alert import Alert, AlertSink

KINDS = alert_kinds(FailureBurst(failures=20, within=300.0))


class RecordingSink:
    """Records the alerts that it takes. While `down`, it takes none."""

    def __init__(self, name: str = "recording") -> None:
        self.name = name
        self.alerts: list[Alert] = []
        self.calls = 0
        self.down = False

    def send(self, alert: Alert) -> bool:
        self.calls += 1
        if not self.down:
            self.alerts.append(alert)
        return not self.down

    @property
    def titles(self) -> list[str]:
        return [alert.title for alert in self.alerts]

    @property
    def over(self) -> list[bool]:
        return [alert.over for alert in self.alerts]


class AlertBench(Bench):
    """A ledger with one sink."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.sink = RecordingSink()
        self._keys = 0

    def add_job(self, *, route: str = "employees", state: str = "parked", group: str = "g404", **values: Any) -> int:
        self._keys += 1
        row = {
            "route": route,
            "key": f'{{"employeeId":"{self._keys}"}}',
            "state": state,
            "group_key": group,
            "outcome": "hopeless",
            "status": 404,
            "detail": "no such employee: Jane Doe",
            "due_at": self.clock.now,
            "last_seq": 1,
            "created_at": self.clock.now,
            "changed_at": self.clock.now,
            **values,
        }
        with self.ledger.begin() as tx:
            return int(tx.connection.execute(jobs.insert().returning(jobs.c.id), row).scalar_one())

    def add_attempts(self, count: int, *, outcome: str | None = "api_fault", route: str = "employees") -> None:
        job_id = self.add_job(route=route, state="retryable", group="retrying")
        call = {"job_id": job_id, "covers_seq": 1, "worker": "w", "began_at": self.clock.now, "outcome": outcome}
        rows = [{**call, "number": n, "token": f"{route}-{job_id}-{n}", "fence": n} for n in range(count)]
        with self.ledger.begin() as tx:
            tx.connection.execute(attempts.insert(), rows)

    def change_jobs(self, state: str, group: str = "g404") -> None:
        """Give all jobs of the group another state."""
        with self.ledger.begin() as tx:
            tx.connection.execute(update(jobs).where(jobs.c.group_key == group).values(state=state, changed_at=self.clock.now))

    def update_alerts(self) -> None:
        update_alerts(self.ledger, KINDS)

    def sweep(self, *sinks: AlertSink) -> None:
        """Update and deliver, as one sweep of beat does. Then let the time until the next sweep pass."""
        self.update_alerts()
        deliver(self.ledger, sinks or (self.sink,))
        self.clock.advance(30)

    def alert_rows(self) -> list[Mapping[str, Any]]:
        with self.ledger.begin(read_only=True) as tx:
            return list(tx.connection.execute(select(alerts).order_by(alerts.c.fingerprint)).mappings())

    @property
    def undelivered(self) -> int:
        return sum(not row["delivered"] for row in self.alert_rows())


def open_bench(kind: str, folder: Path) -> Iterator[AlertBench]:
    """Yield a bench on a fresh database: the body of a fixture."""
    with a_database(kind, folder) as url:
        bench = AlertBench(url)
        yield bench
        bench.close()
