"""`redrive replay`, `discard`, `pause` and `resume`: what an operator does to jobs and routes."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

from tasks.cli.options import JobIds, Json, Reason, RouteName, Yes
from tasks.cli.output import Output
from tasks.cli.report import Report, warn_unsent
from tasks.dlq.text import format_count, format_parameters

if TYPE_CHECKING:
    from tasks.dlq.ledger import Ledger
    from tasks.dlq.ledger.operations import Seen
    from tasks.dlq.services.operations import Changed

View = Mapping[str, Any]

#: Jobs of one transaction.
_BATCH = 100
#: Jobs that a question names one by one.
_NAMED = 20
_HINT = "look at them with: redrive show ID, or redrive jobs"


def replay(job_ids: JobIds, *, reason: Reason = "", json: Json = False) -> None:
    """Call closed jobs (completed, parked, discarded) again, at once and with a fresh budget."""
    from tasks.cli.session import get_actor, open_operations

    report = _report(Output(json=json), "replayed")
    with open_operations(report.out) as (ledger, operations):
        for jobs in _split(_look(ledger, job_ids)):
            _add(report, operations.replay(jobs, actor=get_actor(), reason=reason))
    report.end(done=["done"], hint=_HINT)


def discard(job_ids: JobIds, *, reason: Reason = "", yes: Yes = False, json: Json = False) -> None:
    """Stop calling waiting or parked jobs. A later failure of the same entity opens its job again."""
    from tasks.cli.session import get_actor, open_operations

    report = _report(Output(json=json), "discarded")
    with open_operations(report.out) as (ledger, operations):
        views = _look(ledger, job_ids)
        if not yes:
            _confirm(report.out, views)
        for jobs in _split(views):
            _add(report, operations.discard(jobs, actor=get_actor(), reason=reason))
    report.end(done=["done"], hint=_HINT)


def pause(route: RouteName, *, reason: Reason = "", json: Json = False) -> None:
    """Begin no more calls of a route; open calls end by themselves. Intake continues, and jobs wait."""
    from tasks.cli.session import get_actor, open_operations
    from tasks.settings import settings

    out = Output(json=json)
    target = settings().route(route)
    with open_operations(out) as (_, operations):
        changed = operations.pause(target, actor=get_actor(), reason=reason)
    if json:
        out.record({"route": target.name, "paused": True, "changed": changed})
    else:
        out.line(f"route {target.name} {'is paused' if changed else 'was paused already'}")


def resume(route: RouteName, *, reason: Reason = "", json: Json = False) -> None:
    """Let the calls of a paused route begin again, with a closed breaker."""
    from tasks.cli.session import get_actor, open_operations
    from tasks.settings import settings

    out = Output(json=json)
    target = settings().route(route)
    with open_operations(out) as (_, operations):
        resumed = operations.resume(target, actor=get_actor(), reason=reason)
    if json:
        out.record({"route": target.name, "paused": False, "changed": resumed.changed})
    else:
        out.line(f"route {target.name} {'is resumed' if resumed.changed else 'was not paused'}")
    warn_unsent(out, resumed.unsent)


def _look(ledger: "Ledger", job_ids: Sequence[int]) -> dict[int, View | None]:
    """Return each job as it is now, by id; None if there is no such job."""
    from tasks.dlq.ledger.queries import find_jobs

    with ledger.begin(read_only=True) as tx:
        found = find_jobs(tx, set(job_ids))
    return {job_id: found.get(job_id) for job_id in job_ids}


def _split(views: Mapping[int, View | None]) -> "Iterator[dict[int, Seen | None]]":
    """Yield what was seen of the jobs, in batches."""
    from tasks.dlq.job import State
    from tasks.dlq.ledger.operations import Seen

    seen = {job_id: Seen(State(view["state"]), view["needs"]) if view else None for job_id, view in views.items()}
    items = iter(seen.items())
    while batch := dict(islice(items, _BATCH)):
        yield batch


def _confirm(out: Output, views: Mapping[int, View | None]) -> None:
    from tasks.dlq.ledger.operations import DISCARDABLE

    jobs = [view for view in views.values() if view and view["state"] in DISCARDABLE]
    if not jobs:
        return
    out.require_terminal(f"{format_count(len(jobs), 'job')} would be discarded", hint="add --yes")
    for view in jobs[:_NAMED]:
        last = view["detail"] or "not called yet"
        out.note(f"job {view['id']}: {view['state']}, {view['route']} {format_parameters(view['parameters'])}, {last}")
    if len(jobs) > _NAMED:
        out.note(f"and {format_count(len(jobs) - _NAMED, 'more job')}")
    out.confirm(f"Discard {format_count(len(jobs), 'job')}?")


def _report(out: Output, done: str) -> Report:
    return Report(out, {"done": done, "skipped": "skipped", "not_found": "not found"})


def _add(report: Report, changed: "Changed") -> None:
    report.add_wakeups(changed.wakeups)
    for job in changed.jobs:
        record = {"job": job.job_id, "result": report.words["done"] if job.result == "done" else job.result}
        line = f"job {job.job_id}: {report.words[job.result]}"
        if job.reason:
            report.add(job.result, {**record, "reason": job.reason}, f"{line}, {job.reason}")
        else:
            report.add(job.result, record, line)
