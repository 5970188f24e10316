"""What is wrong right now: failure groups, bursts of failures, paused routes and open breakers, each as one `Alert`.

Reads only, and a bounded amount: a loose index scan steps from failure group to failure group instead of over their jobs. An
alert is made of names, counts and HTTP codes alone. An answer's text stays in the ledger: it may name a person.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import func, literal, select

from tasks.dlq.alerts.alert import BREAKER_OPEN, BURST, FAILURE_GROUP, ROUTE_PAUSED, Alert
from tasks.dlq.alerts.text import breaker_text, burst_text, cause, clock_time, group_text, in_words, more_groups_text, paused_text
from tasks.dlq.calls.outcome import Outcome
from tasks.dlq.job import State
from tasks.dlq.ledger.schema import attempts, jobs, routes

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from sqlalchemy import Row, Select

    from tasks.dlq.ledger import Transaction

#: Who paused a route that paused itself.
REDRIVE = "redrive"
#: Failure groups of one route that have an alert of their own; further ones share one: a flood of groups is no flood of alerts.
GROUPS_PER_ROUTE = 10
#: Bounds of one look: distinct groups, jobs counted in one group, attempts counted back from now.
GROUPS_SEEN = 10_000
JOBS_COUNTED = 100_000
ATTEMPTS_SEEN = 50_000
#: Faults in a row before an open breaker is told: an API that restarts is no news.
FAULTS_TOLD = 10
#: Outcomes that are no failure of a call.
_NO_FAILURE = (Outcome.SUCCESS, Outcome.NOT_SENT)


@dataclass(frozen=True, kw_only=True)
class Burst:
    """More than `failures` failed calls of a route within `within` seconds are a burst; it lasts until they are half as many."""

    failures: int = 20
    within: float = 300.0


def troubles(tx: Transaction, burst: Burst, firing: Collection[str]) -> Iterator[Alert]:
    """Yield what people should know of now.

    Args:
        tx: an open transaction; a read-only one is enough.
        burst: when failures are a burst.
        firing: fingerprints of the alerts that are firing: a burst among them ends later than it would begin.
    """
    yield from _failure_groups(tx, firing)
    yield from _bursts(tx, burst, firing)
    yield from _paused_routes(tx)
    yield from _open_breakers(tx)


def _failure_groups(tx: Transaction, firing: Collection[str]) -> Iterator[Alert]:
    by_route: dict[str, list[Row[Any]]] = defaultdict(list)
    for group in _groups(tx, firing):
        by_route[group.route].append(group)
    for route, groups in sorted(by_route.items()):
        # Those that have an alert keep it; then whoever came first.
        groups.sort(key=lambda group: (_fingerprint(group.group_key) not in firing, group.changed_at, group.id))
        yield from (_group_alert(group, _count(tx, group.group_key)) for group in groups[:GROUPS_PER_ROUTE])
        if len(groups) > GROUPS_PER_ROUTE:
            yield _more_groups_alert(route, len(groups) - GROUPS_PER_ROUTE)


def _groups(tx: Transaction, firing: Collection[str]) -> Iterator[Row[Any]]:
    """Yield the job of each failure group that was parked first. Firing groups are looked up even beyond the scan's bound."""
    seen = set()
    for group in tx.connection.execute(_every_group()):
        seen.add(_fingerprint(group.group_key))
        yield group
    for fingerprint in sorted(set(firing) - seen):
        prefix, _, key = fingerprint.partition(":")
        if prefix == "group":
            yield from tx.connection.execute(_first_parked(key))


def _every_group() -> Select[Any]:
    """Step through the distinct group keys by the index, and join each to its first parked job.

    The technique is PostgreSQL's "loose indexscan" (wiki.postgresql.org/wiki/Loose_indexscan); SQLite runs it as well.
    """
    first = select(func.min(jobs.c.group_key).label("key"), literal(1).label("step")).where(jobs.c.group_key > "")
    walk = first.cte("walk", recursive=True)
    following = select(func.min(jobs.c.group_key)).where(jobs.c.group_key > walk.c.key).scalar_subquery()
    walk = walk.union_all(select(following, walk.c.step + 1).where(walk.c.key.is_not(None), walk.c.step < GROUPS_SEEN))
    parked = jobs.alias("parked")
    oldest = (
        select(parked.c.id)
        .where(parked.c.group_key == walk.c.key, parked.c.state == State.PARKED)
        .order_by(parked.c.changed_at)
        .limit(1)
        .correlate(walk)
        .scalar_subquery()
    )
    return select(jobs).join_from(walk, jobs, jobs.c.id == oldest)


def _first_parked(key: str) -> Select[Any]:
    return select(jobs).where(jobs.c.group_key == key, jobs.c.state == State.PARKED).order_by(jobs.c.changed_at).limit(1)


def _count(tx: Transaction, key: str) -> int:
    parked = select(jobs.c.id).where(jobs.c.group_key == key, jobs.c.state == State.PARKED).limit(JOBS_COUNTED).subquery()
    return tx.connection.scalars(select(func.count()).select_from(parked)).one()


def _fingerprint(group_key: str) -> str:
    return f"group:{group_key}"


def _group_alert(group: Row[Any], count: int) -> Alert:
    facts: dict[str, str | int | float] = {
        "outcome": group.outcome or "",
        "first_job": group.id,
        "since": clock_time(group.changed_at),
    }
    if group.status is not None:
        facts["status"] = group.status
    return Alert(
        kind=FAILURE_GROUP,
        fingerprint=_fingerprint(group.group_key),
        title=f"{group.route}: {in_words(count, 'job')} parked, {cause(facts)}",
        text=group_text(group.route, count, facts),
        route=group.route,
        count=count,
        facts=facts,
    )


def _more_groups_alert(route: str, groups: int) -> Alert:
    return Alert(
        kind=FAILURE_GROUP,
        fingerprint=f"groups:{route}",
        title=f"{route}: {in_words(groups, 'more failure group')}",
        text=more_groups_text(route, groups),
        route=route,
        count=groups,
        facts={"groups": groups},
    )


def _bursts(tx: Transaction, burst: Burst, firing: Collection[str]) -> Iterator[Alert]:
    since = tx.now() - round(burst.within * 1000)
    recent = (
        select(attempts.c.job_id, attempts.c.outcome)
        .where(attempts.c.began_at > since)
        .order_by(attempts.c.began_at.desc())
        .limit(ATTEMPTS_SEEN)
        .subquery()
    )
    failures = (
        select(jobs.c.route, func.count().label("count"))
        .join_from(recent, jobs, jobs.c.id == recent.c.job_id)
        .where(recent.c.outcome.not_in(_NO_FAILURE))  # an open call has no outcome: null is not "not in"
        .group_by(jobs.c.route)
        .order_by(jobs.c.route)
    )
    for route, count in tx.connection.execute(failures):
        fingerprint = f"burst:{route}"
        if count > (burst.failures // 2 if fingerprint in firing else burst.failures):
            yield Alert(
                kind=BURST,
                fingerprint=fingerprint,
                title=f"{route}: {in_words(count, 'failed call')} within {burst.within:g} s",
                text=burst_text(route, count, burst.within),
                route=route,
                count=count,
                facts={"within_seconds": burst.within, "threshold": burst.failures},
            )


def _paused_routes(tx: Transaction) -> Iterator[Alert]:
    paused = select(routes.c.name, routes.c.paused_at).where(routes.c.paused_by == REDRIVE, routes.c.paused_at.is_not(None))
    for name, paused_at in tx.connection.execute(paused.order_by(routes.c.name)):
        facts = {"since": clock_time(paused_at)}
        yield Alert(
            kind=ROUTE_PAUSED,
            fingerprint=f"paused:{name}",
            title=f"{name}: the route has paused itself",
            text=paused_text(name, facts["since"]),
            route=name,
            count=1,
            facts=facts,
        )


def _open_breakers(tx: Transaction) -> Iterator[Alert]:
    open_ones = select(routes.c.name).where(routes.c.breaker_open, routes.c.faults >= FAULTS_TOLD, routes.c.paused_at.is_(None))
    for name in tx.connection.scalars(open_ones.order_by(routes.c.name)):
        yield Alert(
            kind=BREAKER_OPEN,
            fingerprint=f"breaker:{name}",
            title=f"{name}: the API fails, whatever is called",
            text=breaker_text(name),
            route=name,
            count=1,
        )
