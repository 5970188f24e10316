"""The bounded doorbell: which wake-ups may be out. The ledger is the truth; a wake-up only says "look now".

At most `route.window` wake-ups are out per route; further jobs wait in the ledger. A wake-up counts as out until it is received,
or for `BELL_LIFE` after it was due. Losing them all costs one sweep: `promote` rings again when something is due, a slot is free
and no recent bell is out; the time that it waits for an answer doubles from 9 s to 15 min until someone comes. Where bells that
nobody answers take all places, SQS is asked how many it holds: the others are lost.

A paused route rings nothing. Behind an open breaker one bell is out, for the next probe.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import func, or_, select, update

from tasks.dlq.calls.limits import LONGEST_DELAY
from tasks.dlq.job import WAITING, State, Wakeup
from tasks.dlq.ledger.claims import due
from tasks.dlq.ledger.routes import is_shut, lock_route, occupied
from tasks.dlq.ledger.schema import jobs, routes, waiting

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sqlalchemy import ColumnElement, Row, Select

    from tasks.dlq.calls.route import Route
    from tasks.dlq.ledger.engine import Transaction

#: Milliseconds after its due time until an unanswered wake-up is taken for lost and leaves the window.
BELL_LIFE = 4 * 3_600_000
#: Milliseconds that a sweep waits for an answer to its bell before it rings again: doubled each time, up to the cap.
FIRST_PATIENCE = 9_000
MOST_PATIENCE = 900_000
#: The patience of a sweep when a worker has just started.
_NONE = 0
#: Milliseconds for which a bell that is due counts as on its way. One that is not answered by then may be lost, or wait in line.
ON_ITS_WAY = 5_000
#: Wake-ups beyond the window that may be rung for others that nobody answers. The last is kept for a sweep after somebody came:
#: he may have come for the last bell there was.
SPARE = 10
#: Milliseconds that make no difference to a bell: SQS delays by whole seconds.
_SOON = 500
#: Milliseconds after its due time from which a bell may be missed in the queue: SQS' own counts may lag by a minute.
_COUNTED = 60_000
#: SQS delays a message by at most this many seconds; what is due later waits in the ledger until `promote`.
MAX_DELAY = LONGEST_DELAY
_JOBS: Select[Any] = select(jobs.c.id, jobs.c.route, jobs.c.key, jobs.c.due_at)
_OLDEST = (jobs.c.due_at, jobs.c.id)
_SILENT = jobs.c.rung_until.is_(None)


def reserve(tx: Transaction, route: Route, job_ids: Sequence[int]) -> list[Wakeup]:
    """Take places in the window for these waiting jobs, as far as there are any. The caller rings after the commit."""
    row = lock_route(tx, route.name)
    return _reserve(tx, route, row, tx.now(), jobs.c.id.in_(job_ids)) if job_ids else []


def _reserve(tx: Transaction, route: Route, row: Row[Any], now: int, *which: ColumnElement[bool]) -> list[Wakeup]:
    if row.paused_at is not None:
        return []
    if row.breaker_open:
        return _ring_for_probe(tx, route, row, now, *which)
    if row.rung_at is not None and row.rung_ttl >= MOST_PATIENCE:
        return []  # nobody has come for long: what is out is enough, also once it is an hour old and counts no more
    room = route.window - outstanding(tx, route.name, now)
    if room <= 0:
        return []
    silent = or_(jobs.c.rung_until.is_(None), jobs.c.rung_until <= now)
    waiting = _JOBS.where(*which, silent, jobs.c.state.in_(WAITING))
    soon = waiting.where(jobs.c.due_at <= now + MAX_DELAY * 1000).order_by(*_OLDEST).limit(room)
    return _take(tx, tx.connection.execute(soon).all(), now, at=now)


def receive(tx: Transaction, route: Route, job_id: int) -> list[Wakeup]:
    """Note that a wake-up came: it leaves the window, and sweeps are patient no longer than at first.

    Returns:
        The wake-up to ring in its place when it came too early: an earlier slice called the job, and it is due again later.
    """
    row = lock_route(tx, route.name)
    tx.connection.execute(update(jobs).where(jobs.c.id == job_id, jobs.c.rung_until.is_not(None)).values(rung_until=None))
    impatient = or_(routes.c.rung_at.is_not(None), routes.c.rung_ttl == _NONE)
    answered = update(routes).where(routes.c.name == route.name, impatient)
    tx.connection.execute(answered.values(rung_at=None, rung_ttl=FIRST_PATIENCE))
    now = tx.now()
    return _reserve(tx, route, row, now, jobs.c.id == job_id, jobs.c.due_at > now)


def take_back(tx: Transaction, job_ids: Sequence[int]) -> None:
    """Note that these wake-ups never went out: they leave the window, and the next sweep rings without patience."""
    silent = select(jobs.c.route).where(jobs.c.id.in_(job_ids))
    tx.connection.execute(update(routes).where(routes.c.name.in_(silent)).values(rung_at=None))
    _set_rung_until(tx, dict.fromkeys(tx.connection.execute(_JOBS.where(jobs.c.id.in_(job_ids))).all()))


def follow_up(tx: Transaction, route: Route) -> list[Wakeup]:
    """Ring once more at the end of a slice when jobs are due, nobody runs, and no bell that is due is out."""
    row = lock_route(tx, route.name)
    now = tx.now()
    if is_shut(row, now):
        return []
    if row.breaker_open:
        return _ring_for_probe(tx, route, row, now)
    if occupied(tx, route.name, now) >= route.max_in_flight:
        return _ring_after_rest(tx, route, now)
    if _is_ringing(tx, route.name, since=now - ON_ITS_WAY, now=now):
        return []
    return _ring_due(tx, route, now, count=min(1, _spare(tx, route, now) - 1))


def _ring_after_rest(tx: Transaction, route: Route, now: int) -> list[Wakeup]:
    """Ring the job due for longest when a slot that rests after an unknown outcome is free again; whoever runs goes on anyway."""
    resting = select(func.min(jobs.c.rest_until)).where(jobs.c.route == route.name, jobs.c.rest_until > now)
    until = tx.connection.scalar(resting.where(jobs.c.state != State.EXECUTING))
    if until is None or _is_ringing(tx, route.name, since=until - 1, now=until + FIRST_PATIENCE):
        return []
    if until > now + MAX_DELAY * 1000:
        return []
    return _take(tx, tx.connection.execute(_JOBS.where(due(route.name, now)).order_by(*_OLDEST).limit(1)).all(), now, at=until)


def _ring_for_probe(tx: Transaction, route: Route, row: Row[Any], now: int, *which: ColumnElement[bool]) -> list[Wakeup]:
    """Ring when the next probe may begin, unless a bell comes by then: whoever answers that one looks here again."""
    soonest = tx.connection.execute(_JOBS.where(jobs.c.route == route.name, waiting, *which).order_by(*_OLDEST).limit(1)).first()
    if soonest is None:
        return []
    rests = tx.connection.scalar(select(func.max(jobs.c.rest_until)).where(jobs.c.route == route.name, jobs.c.rest_until > now))
    at = max(soonest.due_at, row.probe_at, rests or 0, now)
    if at > now + MAX_DELAY * 1000 or _is_ringing(tx, route.name, since=now - ON_ITS_WAY, now=at + _SOON):
        return []
    return _take(tx, [soonest], now, at=at)


def promote(tx: Transaction, route: Route) -> list[Wakeup]:
    """Ring for due jobs that nobody comes for: as many as there are free slots, and places among those that may be out."""
    row = lock_route(tx, route.name)
    now = tx.now()
    if is_shut(row, now) or (row.breaker_open and now < row.probe_at):
        return []
    if row.rung_at is not None and now < row.rung_at + row.rung_ttl:
        return []
    if _is_ringing(tx, route.name, since=now - ON_ITS_WAY, now=now):
        return []
    room = _spare(tx, route, now) - (row.rung_at is not None)
    if row.rung_ttl in {_NONE, MOST_PATIENCE}:
        room = max(room, 1)  # a worker has just started, or nobody came for long: all that is out may be lost
    free = route.max_in_flight - occupied(tx, route.name, now)
    wakeups = _ring_due(tx, route, now, count=min(free, room, 1 if row.breaker_open else free))
    if wakeups or room <= 0:
        patience = FIRST_PATIENCE if row.rung_at is None else min(row.rung_ttl * 2, MOST_PATIENCE)
        tx.connection.execute(update(routes).where(routes.c.name == route.name).values(rung_at=now, rung_ttl=patience))
    return wakeups


def unheard(tx: Transaction, route: Route) -> int:
    """Count the bells that nobody answered for a minute, where they leave no place for others and a slot is free; else 0."""
    row, now = tx.connection.execute(select(routes).where(routes.c.name == route.name)).first(), tx.now()
    if row is None or is_shut(row, now) or row.breaker_open or _spare(tx, route, now) > 1:
        return 0
    if occupied(tx, route.name, now) >= route.max_in_flight:
        return 0
    return tx.connection.scalars(select(func.count()).where(*_unheard(route, now))).one()


def give_up(tx: Transaction, route: Route, count: int) -> int:
    """Take the first of these bells for lost, for the queue does not hold as many; return how many."""
    oldest = select(jobs.c.id).where(*_unheard(route, tx.now())).order_by(jobs.c.rung_until, jobs.c.id).limit(count)
    lost = tx.connection.scalars(oldest).all()
    take_back(tx, lost)
    return len(lost)


def _unheard(route: Route, now: int) -> tuple[ColumnElement[bool], ...]:
    return jobs.c.route == route.name, jobs.c.rung_until > now, jobs.c.rung_until <= now + BELL_LIFE - _COUNTED


def forget_patience(tx: Transaction) -> None:
    """Let the next sweep ring at once: a worker has just started."""
    tx.connection.execute(update(routes).values(rung_at=None, rung_ttl=_NONE))


def outstanding(tx: Transaction, route: str, now: int) -> int:
    """Count the route's wake-ups that are out."""
    return tx.connection.scalars(select(func.count()).where(jobs.c.route == route, jobs.c.rung_until > now)).one()


def _spare(tx: Transaction, route: Route, now: int) -> int:
    return route.window + SPARE - outstanding(tx, route.name, now)


def _is_ringing(tx: Transaction, route: str, *, since: int, now: int) -> bool:
    """Tell whether a bell that became due after `since` is out: someone will come for it any moment."""
    ringing = select(jobs.c.id).where(
        jobs.c.route == route, jobs.c.rung_until > since + BELL_LIFE, jobs.c.rung_until <= now + BELL_LIFE
    )
    return tx.connection.execute(ringing.limit(1)).first() is not None


def _ring_due(tx: Transaction, route: Route, now: int, *, count: int) -> list[Wakeup]:
    """Ring for the jobs due for longest that have no bell out; else for those whose bell is not expected any moment.

    In this order a bell that is rung because others were not answered has a place of its own among those that are out.
    """
    if count <= 0:
        return []
    unanswered = _JOBS.where(due(route.name, now), or_(_SILENT, jobs.c.rung_until <= now + BELL_LIFE - ON_ITS_WAY))
    rows = tx.connection.execute(unanswered.where(_SILENT).order_by(*_OLDEST).limit(count)).all()
    if not rows:
        rows = tx.connection.execute(unanswered.order_by(*_OLDEST).limit(count)).all()
    return _take(tx, rows, now, at=now)


def _take(tx: Transaction, rows: Sequence[Row[Any]], now: int, *, at: int) -> list[Wakeup]:
    """Take a place for each job, to be rung when it is due and not before `at`."""
    ringing = {row: max(row.due_at, at) for row in rows}
    _set_rung_until(tx, {row: rings_at + BELL_LIFE for row, rings_at in ringing.items()})
    return [Wakeup(job_id=row.id, delay=(rings_at - now) / 1000) for row, rings_at in ringing.items()]


def _set_rung_until(tx: Transaction, until: Mapping[Row[Any], int | None]) -> None:
    """Write it into the jobs in the order in which intake locks their keys: else the two may wait for each other."""
    for row in sorted(until, key=lambda row: (row.route, row.key)):
        tx.connection.execute(update(jobs).where(jobs.c.id == row.id).values(rung_until=until[row]))
