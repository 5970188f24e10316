"""`redrive replay` and `redrive discard`: a person's decisions about jobs, each compared with what the person saw."""

import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tasks.cli.errors import Partly
from tasks.cli.jobs import MAX_ID
from tasks.cli.output import Json, Output
from tasks.cli.routes import Reason
from tasks.dlq.errors import NotFound, Refused
from tasks.dlq.job import CLOSED, WAITING, State
from tasks.dlq.text import format_count, format_parameters

if TYPE_CHECKING:
    from tasks.dlq.ledger import Ledger, Transaction

JobIds = Annotated[list[int], typer.Argument(metavar="ID", min=1, max=MAX_ID, help="Jobs, as redrive jobs lists them.")]
View = Mapping[str, Any]

#: Jobs that a question names one by one.
_NAMED = 20


@dataclass(frozen=True, kw_only=True)
class Act:
    """What is done to a job: in the ledger, if it is in one of `states` and as it was seen."""

    name: str
    done: str
    states: Sequence[State]
    change: Callable[..., bool]


def replay(job_ids: JobIds, *, reason: Reason = "", json: Json = False) -> None:
    """Call closed jobs (completed, parked or discarded) again: now, and with a fresh budget."""
    from tasks.cli.session import ringing
    from tasks.dlq.ledger import operations

    act = Act(name="replay", done="replayed", states=CLOSED, change=operations.replay)
    out = Output(json=json)
    with ringing(out) as session:
        ledger, configured = session.runtime.ledger, session.runtime.settings.routes
        seen = _look(ledger, job_ids)
        uncalled = {
            job_id: "its route is not in redrive.toml" for job_id, view in seen.items() if view["route"] not in configured
        }
        results = _act(out, ledger, act, job_ids, seen, reason=reason, but=uncalled)
        replayed = [job_id for job_id, result in results.items() if result == act.done]
        for route in sorted({seen[job_id]["route"] for job_id in replayed}):
            session.wake(route, [job_id for job_id in replayed if seen[job_id]["route"] == route])
    _end(results, act)


def discard(
    job_ids: JobIds,
    *,
    reason: Reason = "",
    yes: Annotated[bool, typer.Option("--yes", metavar="", help="Do not ask.")] = False,
    json: Json = False,
) -> None:
    """Put waiting or parked jobs aside for good. A later failure of the same entity opens its job again."""
    from tasks.dlq.ledger import operations
    from tasks.ledger_setup import open_ledger
    from tasks.settings import settings

    act = Act(name="discard", done="discarded", states=(*WAITING, State.PARKED), change=operations.discard)
    out = Output(json=json)
    with open_ledger(settings()) as ledger:
        seen = _look(ledger, job_ids)
        if not yes:
            _ask(out, [view for view in seen.values() if view["state"] in act.states])
        results = _act(out, ledger, act, job_ids, seen, reason=reason)
    _end(results, act)


def _look(ledger: "Ledger", job_ids: Sequence[int]) -> Mapping[int, View]:
    from tasks.dlq.ledger.queries import jobs_of_ids

    with ledger.begin(read_only=True) as tx:
        return jobs_of_ids(tx, set(job_ids))


def _ask(out: Output, views: Sequence[View]) -> None:
    """Ask on a terminal; elsewhere nobody could answer."""
    if not views:
        return
    if out.json or not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise Refused(f"{format_count(len(views), 'job')} would be discarded, and nobody can be asked", hint="add --yes")
    for view in views[:_NAMED]:
        last = view["detail"] or "not called yet"
        out.note(f"job {view['id']}: {view['state']}, {view['route']} {format_parameters(view['parameters'])}, {last}")
    if len(views) > _NAMED:
        out.note(f"and {format_count(len(views) - _NAMED, 'more job')}")
    typer.confirm(f"Discard {format_count(len(views), 'job')}?", abort=True, err=True)


def _act(
    out: Output,
    ledger: "Ledger",
    act: Act,
    job_ids: Sequence[int],
    seen: Mapping[int, View],
    *,
    reason: str,
    but: Mapping[int, str] | None = None,
) -> dict[int, str]:
    """Act on each job in a transaction of its own, and print what became of it; `but` tells which to skip, and why."""
    results: dict[int, str] = {}
    for job_id in dict.fromkeys(job_ids):
        view, why = seen.get(job_id), (but or {}).get(job_id, "")
        if view is None:
            result = "not_found"
        elif why or view["state"] not in act.states:
            result, why = "skipped", why or f"it is {view['state']}"
        elif _changed(ledger, act, view, reason):
            result = act.done
        else:
            result, why = "skipped", "changed meanwhile"
        results[job_id] = result
        if out.json:
            out.record({"job": job_id, "result": result} | ({"reason": why} if why else {}))
        else:
            out.line(f"job {job_id}: {result.replace('_', ' ')}{f', {why}' if why else ''}")
    return results


def _changed(ledger: "Ledger", act: Act, view: View, reason: str) -> bool:
    from tasks.cli.session import actor
    from tasks.dlq.ledger import operations

    def work(tx: "Transaction") -> bool:
        changed = act.change(tx, view["id"], state=State(view["state"]), last_seq=view["needs"])
        if changed:
            operations.log(tx, actor=actor(), action=act.name, subject=f"job {view['id']}", reason=reason)
        return changed

    return ledger.transact(work)


def _end(results: Mapping[int, str], act: Act) -> None:
    counts = Counter(results.values())
    if counts.keys() == {"not_found"}:
        raise NotFound(f"no job {', '.join(map(str, results))}", hint="list them with: redrive jobs")
    if counts.keys() != {act.done}:
        told = ", ".join(f"{count:,} {result.replace('_', ' ')}" for result, count in counts.items())
        raise Partly(told, hint="see what became of a job with: redrive show ID")
