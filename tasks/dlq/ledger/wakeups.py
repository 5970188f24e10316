"""Wake-ups: Celery messages that start a worker's slice. At most a window of them is out for each route.

A wake-up may be lost, late or doubled without harm: the ledger holds the job, and `promote` sends another. A worker that is awake
goes on by itself, so a few wake-ups serve many jobs. Every wake-up has a place in its job's row (`wakeup_until`) until it
is received, or until it expires.

- A sweep that has sent a wake-up waits for an answer before it sends another: first 9 s, then twice as long each time.
- If the places are full and nobody answers for a minute, SQS is asked how many wake-ups it holds. The others are lost.
- A paused route sends none. Behind an open breaker one wake-up is out, for the next probe.

Each function here reserves places and returns the wake-ups; the caller sends them after the commit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import func, or_, select, update

from tasks.dlq.calls.limits import LONGEST_DELAY
from tasks.dlq.job import State, Wakeup
from tasks.dlq.ledger.claims import is_due
from tasks.dlq.ledger.schema import jobs, routes, waiting

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy import ColumnElement, Row, Select

    from tasks.dlq.ledger.engine import Transaction
    from tasks.dlq.ledger.routes import LockedRoute

#: Milliseconds after a wake-up is due until it expires: it counts as lost, and its place is free.
LIFETIME = 4 * 3_600_000
#: Milliseconds that a sweep waits for an answer to its wake-up: doubled each time, up to the longest.
FIRST_TIMEOUT = 9_000
LONGEST_TIMEOUT = 900_000
#: The timeout after a worker has just started: the next sweep sends at once.
_NO_TIMEOUT = 0
#: Milliseconds after it is due in which a wake-up counts as about to arrive.
IN_TRANSIT = 5_000
#: Places beyond the window, for wake-ups that replace unanswered ones. The last is reserved for the sweep that follows a received
#: wake-up: that one may have been the only one left.
SPARE_PLACES = 10
#: A difference in milliseconds that does not matter: SQS delays by whole seconds.
_NEGLIGIBLE = 500
#: Milliseconds after which a wake-up should show in the queue's counts: those of SQS may lag by a minute.
_COUNT_LAG = 60_000
_JOBS: Select[Any] = select(jobs.c.id, jobs.c.route, jobs.c.key, jobs.c.due_at)
_OLDEST = (jobs.c.due_at, jobs.c.id)
_HAS_NO_WAKEUP = jobs.c.wakeup_until.is_(None)


def reserve_wakeups(locked: LockedRoute, job_ids: Sequence[int]) -> list[Wakeup]:
    """Reserve a wake-up for each of these waiting jobs, as far as the window has room."""
    return _reserve(locked, jobs.c.id.in_(job_ids)) if job_ids else []


def _reserve(locked: LockedRoute, *which: ColumnElement[bool]) -> list[Wakeup]:
    if locked.is_paused:
        return []
    if locked.breaker.open:
        return _reserve_for_probe(locked, *which)
    if locked["swept_at"] is not None and locked["sweep_timeout"] >= LONGEST_TIMEOUT:
        return []  # nobody has answered for long: the wake-ups that are out suffice, also after they have expired
    room = locked.route.window - count_outstanding(locked.tx, locked.route.name, locked.now)
    if room <= 0:
        return []
    without = or_(_HAS_NO_WAKEUP, jobs.c.wakeup_until <= locked.now)
    soon = jobs.c.due_at <= locked.now + round(LONGEST_DELAY * 1000)
    rows = _select(locked, waiting, *which, without, soon, count=room)
    return _take_places(locked, rows, earliest=locked.now)


def receive_wakeup(locked: LockedRoute, job_id: int) -> list[Wakeup]:
    """Record that a wake-up came: its place is free, and sweeps wait no longer than at first.

    Returns:
        The wake-up to send in its place if it came too early: an earlier slice called the job, and it is due again later.
    """
    freed = update(jobs).where(jobs.c.id == job_id, jobs.c.wakeup_until.is_not(None)).values(wakeup_until=None)
    locked.tx.connection.execute(freed)
    if locked["swept_at"] is not None or locked["sweep_timeout"] == _NO_TIMEOUT:
        locked.write(swept_at=None, sweep_timeout=FIRST_TIMEOUT)
    return _reserve(locked, jobs.c.id == job_id, jobs.c.due_at > locked.now)


def release_wakeups(tx: Transaction, job_ids: Sequence[int]) -> None:
    """Record that these wake-ups were never sent: their places are free, and the next sweep sends at once."""
    affected = select(jobs.c.route).where(jobs.c.id.in_(job_ids))
    tx.connection.execute(update(routes).where(routes.c.name.in_(affected)).values(swept_at=None))
    _set_wakeup_until(tx, dict.fromkeys(tx.connection.execute(_JOBS.where(jobs.c.id.in_(job_ids))).all()))


def reserve_follow_up(locked: LockedRoute) -> list[Wakeup]:
    """Reserve one more wake-up at the end of a slice, if jobs are due, no worker is busy, and none is about to arrive."""
    if locked.is_shut:
        return []
    if locked.breaker.open:
        return _reserve_for_probe(locked)
    if locked.count_occupied() >= locked.route.max_in_flight:
        return _reserve_after_rest(locked)
    if _is_one_arriving(locked, since=locked.now - IN_TRANSIT, until=locked.now):
        return []
    return _reserve_due(locked, count=min(1, _count_free_places(locked) - 1))


def _reserve_after_rest(locked: LockedRoute) -> list[Wakeup]:
    """Reserve a wake-up for when a slot ends its rest after an unknown outcome. A slot with an open call needs none."""
    resting = select(func.min(jobs.c.rest_until)).where(jobs.c.route == locked.route.name, jobs.c.rest_until > locked.now)
    until = locked.tx.connection.scalar(resting.where(jobs.c.state != State.EXECUTING))
    if until is None or until > locked.now + round(LONGEST_DELAY * 1000):
        return []
    if _is_one_arriving(locked, since=until - 1, until=until + FIRST_TIMEOUT):
        return []
    return _take_places(locked, _select(locked, is_due(locked.route.name, locked.now), count=1), earliest=until)


def _reserve_for_probe(locked: LockedRoute, *which: ColumnElement[bool]) -> list[Wakeup]:
    """Reserve a wake-up for the next probe, unless one arrives by then: whoever receives that one looks here again."""
    rows = _select(locked, jobs.c.route == locked.route.name, waiting, *which, count=1)
    if not rows:
        return []
    resting = select(func.max(jobs.c.rest_until)).where(jobs.c.route == locked.route.name, jobs.c.rest_until > locked.now)
    rest_until = locked.tx.connection.scalar(resting) or 0
    at = max(rows[0].due_at, locked.breaker.probe_at, rest_until, locked.now)
    if at > locked.now + round(LONGEST_DELAY * 1000):
        return []
    if _is_one_arriving(locked, since=locked.now - IN_TRANSIT, until=at + _NEGLIGIBLE):
        return []
    return _take_places(locked, rows, earliest=at)


def promote_due_jobs(locked: LockedRoute) -> list[Wakeup]:
    """Reserve wake-ups for due jobs that no worker comes for: as many as there are free slots, and free places."""
    breaker, swept_at, timeout = locked.breaker, locked["swept_at"], locked["sweep_timeout"]
    if locked.is_shut or (breaker.open and locked.now < breaker.probe_at):
        return []
    if swept_at is not None and locked.now < swept_at + timeout:
        return []
    if _is_one_arriving(locked, since=locked.now - IN_TRANSIT, until=locked.now):
        return []
    room = _count_free_places(locked) - (swept_at is not None)
    if timeout in {_NO_TIMEOUT, LONGEST_TIMEOUT}:
        room = max(room, 1)  # a worker has just started, or nobody has answered for long: all that are out may be lost
    free = locked.route.max_in_flight - locked.count_occupied()
    wakeups = _reserve_due(locked, count=min(free, room, 1 if breaker.open else free))
    if wakeups or room <= 0:
        longer = FIRST_TIMEOUT if swept_at is None else min(timeout * 2, LONGEST_TIMEOUT)
        locked.write(swept_at=locked.now, sweep_timeout=longer)
    return wakeups


def count_unanswered(locked: LockedRoute) -> int:
    """Count the wakeups that nobody has answered for a minute, if they leave no place for others and a slot is free; else 0."""
    if locked.is_shut or locked.breaker.open or _count_free_places(locked) > 1:
        return 0
    if locked.count_occupied() >= locked.route.max_in_flight:
        return 0
    return locked.tx.connection.scalars(select(func.count()).where(*_is_unanswered(locked))).one()


def drop_lost(locked: LockedRoute, count: int) -> int:
    """Release the oldest `count` unanswered wake-ups, because the queue does not hold them. Return how many there were."""
    oldest = select(jobs.c.id).where(*_is_unanswered(locked)).order_by(jobs.c.wakeup_until, jobs.c.id).limit(count)
    lost = locked.tx.connection.scalars(oldest).all()
    release_wakeups(locked.tx, lost)
    return len(lost)


def _is_unanswered(locked: LockedRoute) -> tuple[ColumnElement[bool], ...]:
    until = locked.now + LIFETIME - _COUNT_LAG
    return jobs.c.route == locked.route.name, jobs.c.wakeup_until > locked.now, jobs.c.wakeup_until <= until


def reset_timeouts(tx: Transaction) -> None:
    """Let the next sweep of every route send at once: a worker has just started."""
    tx.connection.execute(update(routes).values(swept_at=None, sweep_timeout=_NO_TIMEOUT))


def count_outstanding(tx: Transaction, route: str, now: int) -> int:
    """Count the route's wake-ups that are out."""
    return tx.connection.scalars(select(func.count()).where(jobs.c.route == route, jobs.c.wakeup_until > now)).one()


def _count_free_places(locked: LockedRoute) -> int:
    return locked.route.window + SPARE_PLACES - count_outstanding(locked.tx, locked.route.name, locked.now)


def _is_one_arriving(locked: LockedRoute, *, since: int, until: int) -> bool:
    """Whether a wake-up is out that is due after `since` and by `until`."""
    arriving = select(jobs.c.id).where(
        jobs.c.route == locked.route.name,
        jobs.c.wakeup_until > since + LIFETIME,
        jobs.c.wakeup_until <= until + LIFETIME,
    )
    return locked.tx.connection.scalar(arriving.limit(1)) is not None


def _reserve_due(locked: LockedRoute, *, count: int) -> list[Wakeup]:
    """Reserve wake-ups for the jobs that have been due for longest and have none; else for those whose wake-up is overdue.

    In this order a wake-up that replaces unanswered ones has a place of its own.
    """
    if count <= 0:
        return []
    due = is_due(locked.route.name, locked.now)
    rows = _select(locked, due, _HAS_NO_WAKEUP, count=count)
    if not rows:
        rows = _select(locked, due, jobs.c.wakeup_until <= locked.now + LIFETIME - IN_TRANSIT, count=count)
    return _take_places(locked, rows, earliest=locked.now)


def _select(locked: LockedRoute, *which: ColumnElement[bool], count: int) -> Sequence[Row[Any]]:
    return locked.tx.connection.execute(_JOBS.where(*which).order_by(*_OLDEST).limit(count)).all()


def _take_places(locked: LockedRoute, rows: Sequence[Row[Any]], *, earliest: int) -> list[Wakeup]:
    """Take a place for each job, whose wake-up arrives when the job is due, and not before `earliest`."""
    arrivals = {row: max(row.due_at, earliest) for row in rows}
    _set_wakeup_until(locked.tx, {row: at + LIFETIME for row, at in arrivals.items()})
    return [Wakeup(job_id=row.id, delay=(at - locked.now) / 1000) for row, at in arrivals.items()]


def _set_wakeup_until(tx: Transaction, until: Mapping[Row[Any], int | None]) -> None:
    """Write the column in the order in which intake locks keys: otherwise the two could deadlock."""
    for row in sorted(until, key=lambda row: (row.route, row.key)):
        tx.connection.execute(update(jobs).where(jobs.c.id == row.id).values(wakeup_until=until[row]))
