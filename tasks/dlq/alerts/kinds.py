"""The kinds of alert. To add one, write a subclass of `AlertKind` here and list it in `alert_kinds`.

A kind detects its conditions by queries that only read, and that read a bounded number of rows.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from sqlalchemy import func, select

from tasks.dlq.alerts.alert import Alert, AlertState, Severity
from tasks.dlq.calls.outcome import Outcome
from tasks.dlq.ledger.groups import count_parked, first_parked_jobs
from tasks.dlq.ledger.schema import alerts, attempts, jobs, routes
from tasks.dlq.text import format_count, format_minute

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sqlalchemy import Row, Select

    from tasks.dlq.ledger import Transaction


class AlertKind(ABC):
    """One kind of alert: when it begins, how urgent it is, and what it says."""

    #: At most 20 characters; the ledger and Sentry identify the kind by it.
    name: ClassVar[str]
    severity: ClassVar[Severity]

    @abstractmethod
    def detect(self, tx: Transaction) -> Iterator[Alert]:
        """Yield an alert for each condition that holds now. `tx` may be read-only."""

    def alert(self, **values: Any) -> Alert:
        """Return an alert of this kind."""
        return Alert(kind=self.name, severity=self.severity, **values)

    def firing(self, tx: Transaction) -> set[str]:
        """Return the fingerprints of this kind's alerts that have begun and are not over."""
        query = select(alerts.c.fingerprint).where(alerts.c.state == AlertState.FIRING, alerts.c.kind == self.name)
        return set(tx.connection.scalars(query))


# --- failure groups --------------------------------------------------------------------------------------------------

#: Failure groups of one route that have an alert each. All further ones share one alert.
GROUPS_PER_ROUTE = 10
#: Before the group's key: the fingerprint of its alert.
_GROUP = "group:"


class FailureGroup(AlertKind):
    """Jobs are parked for the same reason: route, outcome, HTTP status and normalised message."""

    name = "failure_group"
    severity = Severity.ERROR

    def detect(self, tx: Transaction) -> Iterator[Alert]:
        firing = {fingerprint.removeprefix(_GROUP) for fingerprint in self.firing(tx) if fingerprint.startswith(_GROUP)}
        by_route: dict[str, list[Row[Any]]] = defaultdict(list)
        for first_job in first_parked_jobs(tx, always=firing):
            by_route[first_job.route].append(first_job)
        for route, first_jobs in sorted(by_route.items()):
            # A group that has an alert keeps it. The others are taken in the order in which they began.
            first_jobs.sort(key=lambda job: (job.group_key not in firing, job.changed_at, job.id))
            for job in first_jobs[:GROUPS_PER_ROUTE]:
                yield self._group_alert(job, count_parked(tx, job.group_key))
            if len(first_jobs) > GROUPS_PER_ROUTE:
                yield self._further_groups_alert(route, len(first_jobs) - GROUPS_PER_ROUTE)

    def _group_alert(self, job: Row[Any], count: int) -> Alert:
        parked = format_count(count, "job")
        outcome = job.outcome or "unknown"
        cause = outcome.replace("_", " ")
        facts: dict[str, str | int | float] = {"outcome": outcome, "first_job": job.id, "since": format_minute(job.changed_at)}
        if job.status is not None:
            cause = f"HTTP {job.status} ({cause})"
            facts["status"] = job.status
        return self.alert(
            fingerprint=f"{_GROUP}{job.group_key}",
            subject=job.route,
            title=f"{job.route}: {parked} parked, {cause}",
            text=(
                f"{parked} of route {job.route} {'is' if count == 1 else 'are'} parked since {facts['since']}: {cause}. "
                f"Nothing is lost. A parked job waits for a replay or for a new failure of the same entity.\n"
                f"The first: redrive show {job.id}\n"
                f"All of them: redrive jobs --group {job.group_key} --state parked\n"
                f"Call one again: redrive replay {job.id}"
            ),
            over_text=f"no job is parked any more for {cause}",
            count=count,
            facts=facts,
        )

    def _further_groups_alert(self, route: str, groups: int) -> Alert:
        return self.alert(
            fingerprint=f"groups:{route}",
            subject=route,
            title=f"{route}: {format_count(groups, 'more failure group')}",
            text=(
                f"Jobs of route {route} are parked in {format_count(groups, 'more failure group')}. "
                f"Only the first {GROUPS_PER_ROUTE} groups of a route have an alert each.\n"
                f"All parked jobs: redrive jobs --state parked --route {route}"
            ),
            over_text=f"there are no more than {GROUPS_PER_ROUTE} failure groups",
            count=groups,
            facts={"groups": groups},
        )


# --- bursts ----------------------------------------------------------------------------------------------------------

#: The query looks back over at most this number of attempts.
MAX_ATTEMPTS = 50_000
#: Outcomes of attempts that do not count as failed calls.
_NOT_FAILED = (Outcome.SUCCESS, Outcome.NOT_SENT)


@dataclass(frozen=True, kw_only=True)
class FailureBurst(AlertKind):
    """More than `failures` calls of a route failed `within` seconds. It is over when at most half as many did."""

    failures: int = 20
    within: float = 300.0

    name = "burst"
    severity = Severity.WARNING

    def detect(self, tx: Transaction) -> Iterator[Alert]:
        firing = self.firing(tx)
        for route, count in tx.connection.execute(self._failures_by_route(tx.now())):
            fingerprint = f"burst:{route}"
            if count <= (self.failures // 2 if fingerprint in firing else self.failures):
                continue
            yield self.alert(
                fingerprint=fingerprint,
                subject=route,
                title=f"{route}: {format_count(count, 'failed call')} within {self.within:g} s",
                text=(
                    f"{format_count(count, 'call')} of route {route} failed within {self.within:g} seconds. "
                    f"Redrive calls again as the route's retry policy says, and sends another message when this is over.\n"
                    f"The jobs: redrive jobs --state retryable --route {route}"
                ),
                over_text="calls no longer fail in a burst",
                count=count,
                facts={"within_seconds": self.within, "threshold": self.failures},
            )

    def _failures_by_route(self, now: int) -> Select[Any]:
        recent = (
            select(attempts.c.job_id, attempts.c.outcome)
            .where(attempts.c.began_at > now - round(self.within * 1000))
            .order_by(attempts.c.began_at.desc())
            .limit(MAX_ATTEMPTS)
            .subquery()
        )
        return (
            select(jobs.c.route, func.count().label("count"))
            .join_from(recent, jobs, jobs.c.id == recent.c.job_id)
            .where(recent.c.outcome.not_in(_NOT_FAILED))  # the outcome of an open call is null, which is never "not in"
            .group_by(jobs.c.route)
            .order_by(jobs.c.route)
        )


# --- routes ----------------------------------------------------------------------------------------------------------

#: The value of `paused_by` for a route that paused itself.
REDRIVE = "redrive"
#: API faults in a row before an open breaker begins an alert: an API that restarts needs no alert.
MIN_FAULTS = 10


class RoutePaused(AlertKind):
    """A route paused itself because the API refuses its credentials. A person's pause begins no alert."""

    name = "route_paused"
    severity = Severity.ERROR

    def detect(self, tx: Transaction) -> Iterator[Alert]:
        paused = select(routes.c.name, routes.c.paused_at).where(routes.c.paused_by == REDRIVE, routes.c.paused_at.is_not(None))
        for route, paused_at in tx.connection.execute(paused.order_by(routes.c.name)):
            since = format_minute(paused_at)
            yield self.alert(
                fingerprint=f"paused:{route}",
                subject=route,
                title=f"{route}: the route has paused itself",
                text=(
                    f"The API refuses the credentials of route {route} (401 or 403), so the route paused itself at {since}. "
                    f"Its jobs wait; none is parked for this.\n"
                    f"Correct the route's token, then run: redrive resume {route}"
                ),
                over_text="the route is resumed",
                facts={"since": since},
            )


class BreakerOpen(AlertKind):
    """Calls of a route fail one after the other because of the API: network, 5xx, deadline."""

    name = "breaker_open"
    severity = Severity.ERROR

    def detect(self, tx: Transaction) -> Iterator[Alert]:
        open_breakers = select(routes.c.name, routes.c.faults).where(
            routes.c.breaker_open, routes.c.faults >= MIN_FAULTS, routes.c.paused_at.is_(None)
        )
        for route, faults in tx.connection.execute(open_breakers.order_by(routes.c.name)):
            yield self.alert(
                fingerprint=f"breaker:{route}",
                subject=route,
                title=f"{route}: every call to the API fails",
                text=(
                    f"The last {format_count(faults, 'call')} of route {route} failed because of the API "
                    f"(network, 5xx, deadline). Redrive now makes one call at a time as a probe. "
                    f"A failed probe spends no attempt and parks no job. All jobs go on by themselves when the API answers.\n"
                    f"The route's state: redrive stats"
                ),
                over_text="the API answers again",
                count=faults,
            )


def alert_kinds(burst: FailureBurst | None = None) -> Sequence[AlertKind]:
    """Return every kind of alert."""
    return FailureGroup(), burst or FailureBurst(), RoutePaused(), BreakerOpen()
