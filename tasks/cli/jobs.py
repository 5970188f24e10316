"""`redrive jobs` and `redrive show`: what is to be called, and what became of it."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Annotated, Any

import typer

from tasks.cli.completion import route_names
from tasks.cli.origin import facts, summary
from tasks.cli.output import Column, Csv, Json, Output
from tasks.dlq.calls.breaker import FAULTS
from tasks.dlq.calls.outcome import Outcome
from tasks.dlq.job import WAITING, State
from tasks.dlq.text import format_count, format_parameters, format_relative

#: Ids are 64 bits wide, in both databases.
MAX_ID = 2**63 - 1
#: Attempts and dead letters that are shown of a job.
_LATEST = 50
#: What never costs an attempt of the budget, as a person is told it.
_FREE = {
    Outcome.REFUSED: "were refused (401, 403)",
    Outcome.NOT_SENT: "were not sent",
    Outcome.LOST: "were lost with their worker",
}
_STATE_HELP = f"Only jobs in this state ({', '.join(State)}); may be given more than once."
JobId = Annotated[int, typer.Argument(metavar="ID", min=1, max=MAX_ID, help="A job's id, as redrive jobs lists it.")]


def jobs(
    *,
    state: Annotated[list[State] | None, typer.Option(metavar="STATE", help=_STATE_HELP)] = None,
    route: Annotated[
        str | None, typer.Option(metavar="ROUTE", help="Only jobs of this route.", autocompletion=route_names)
    ] = None,
    group: Annotated[
        str | None, typer.Option(metavar="GROUP", help="Only jobs of this failure group, as redrive show tells it.")
    ] = None,
    after: Annotated[int | None, typer.Option(metavar="ID", min=1, max=MAX_ID, help="Go on below this id.")] = None,
    limit: Annotated[int, typer.Option(metavar="N", min=1, max=10_000, help="At most so many.")] = 50,
    csv: Csv = False,
    json: Json = False,
) -> None:
    """List jobs, newest first."""
    from tasks.dlq.ledger.queries import list_jobs
    from tasks.ledger_setup import open_ledger
    from tasks.settings import settings

    out = Output(json=json, csv=csv)
    with open_ledger(settings()) as ledger, ledger.begin(read_only=True) as tx:
        views = list_jobs(tx, route=route, states=state or (), group=group, after=after, limit=limit)
        now = tx.now()
    if route and not views:
        settings().route(route)  # a name that is nowhere is a slip, not an empty list
    if json:
        for view in views:
            out.record(view)
    elif csv:
        out.sheet(_SHEET, ([_cell(view[name]) for name in _SHEET] for view in views))
    elif views:
        out.table(COLUMNS, [row(view, now) for view in views])
    else:
        out.note("no job is like that" if state or route or group or after else "there are no jobs yet")
    if len(views) == limit:
        out.note(f"there may be more: --after {views[-1]['id']}")


def show(job_id: JobId, *, json: Json = False) -> None:
    """Show one job with its latest attempts and dead letters."""
    from tasks.dlq.ledger.queries import show_job
    from tasks.ledger_setup import open_ledger
    from tasks.settings import settings

    out = Output(json=json)
    with open_ledger(settings()) as ledger, ledger.begin(read_only=True) as tx:
        view = show_job(tx, job_id, limit=_LATEST)
        now = tx.now()
    if json:
        out.record(view)
        return
    _show_facts(out, view, now)
    if view["attempts_made"]:
        out.line()
        out.table(_ATTEMPT_COLUMNS, [_attempt_row(each, now) for each in _alike(view["attempts_made"])])
    if view["dead_letters"]:
        out.line()
        out.table(_LETTER_COLUMNS, [_letter_row(each, now) for each in view["dead_letters"]])
        _show_origin(out, view["dead_letters"][0])
    if view["state"] == State.PARKED:
        out.note(f"when its cause is gone: redrive replay {job_id}\nto give it up: redrive discard {job_id}")
    if len(view["attempts_made"]) == _LATEST < view["calls"]:
        out.note(f"these are the latest {_LATEST} of {view['calls']:,} attempts")
    if len(view["dead_letters"]) == _LATEST < view["needs"]:
        out.note(f"these are the latest {_LATEST} of {view['needs']:,} dead letters")


COLUMNS = (
    Column("ID", right=True),
    Column("State"),
    Column("Route", fold=True),
    Column("Parameters", fold=True),
    Column("Needs", right=True),
    Column("When"),
    Column("Last answer", cut=True),
)
#: What `--csv` has: fields of `--json`, whose order and names stay; new ones come last.
_SHEET = (
    "id", "state", "route", "parameters", "needs", "covered", "due_at", "calls", "attempts", "crashes", "outcome", "status",
    "detail", "group", "created_at", "changed_at",
)  # fmt: skip
_ATTEMPT_COLUMNS = (Column("Attempt", right=True), Column("Began"), Column("Outcome"), Column("Answer", fold=True))
_LETTER_COLUMNS = (
    Column("Letter", right=True),
    Column("Received"),
    Column("Source", fold=True),
    Column("Recovered"),
    Column("Origin", fold=True),
    Column("Body", cut=True),
)


def row(view: dict[str, Any], now: int) -> tuple[Any, ...]:
    """Return a job as a row under `COLUMNS`."""
    return (
        view["id"],
        view["state"],
        view["route"],
        format_parameters(view["parameters"]),
        f"{view['covered']}/{view['needs']}",
        when(view, now),
        view["detail"] or view["outcome"],
    )


def when(view: dict[str, Any], now: int) -> str:
    """Return when a waiting job is due, or since when another is as it is."""
    if view["state"] not in WAITING:
        return format_relative(view["changed_at"], now)
    due = format_relative(view["due_at"], now)
    return due if due.startswith("in ") else "due"


def _cell(value: Any) -> Any:
    return format_parameters(value) if isinstance(value, dict) else value


def _show_facts(out: Output, view: dict[str, Any], now: int) -> None:
    known = {
        "job": view["id"],
        "state": view["state"],
        "route": view["route"],
        "parameters": format_parameters(view["parameters"]),
        "needs": f"{view['needs']:,}, of which {view['covered']:,} covered by a success",
        "due": f"{view['due_at']} ({when(view, now)})" if view["state"] in WAITING else "",
        "calls": f"{view['calls']:,} made in all",
        "budget": _budget(view),
        "crashes": view["crashes"] or "",
        "last answer": view["detail"] or view["outcome"],
        "group": view["group"],
        "created": f"{view['created_at']} ({format_relative(view['created_at'], now)})",
        "changed": f"{view['changed_at']} ({format_relative(view['changed_at'], now)})",
    }
    out.facts(known)


def _budget(view: dict[str, Any]) -> str:
    """Tell how many attempts are spent since the job was scheduled; of a job that is over, how many a later failure gets."""
    from tasks.settings import settings

    route = settings().routes.get(view["route"])
    if route is None:
        return "none: the route is not configured any more"
    whole = format_count(route.retry.max_attempts, "attempt")
    if view["state"] in {State.COMPLETED, State.DISCARDED}:
        return f"{whole}, for a later failure or a replay"
    return f"{view['attempts']:,} of {whole} spent since it was scheduled{_unspent(view)}"


def _unspent(view: dict[str, Any]) -> str:
    """Tell of the calls that cost nothing of this budget, and what they can have been; the ledger keeps only their outcomes."""
    if (free := view["calls"] - view["attempts"] - (view["state"] == State.EXECUTING)) <= 0:
        return ""
    known = {each["outcome"] for each in view["attempts_made"]}
    reasons = ["were made before that"]
    reasons += ["failed while the breaker was open"] if known & FAULTS else []
    reasons += [words for outcome, words in _FREE.items() if outcome in known]
    return f"; {format_count(free, 'call')} cost none of it: {'it' if free == 1 else 'they'} {' or '.join(reasons)}"


def _alike(attempts: Sequence[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Yield attempts, latest first; those in a row that ended alike together."""
    for _, run in groupby(attempts, key=lambda each: (each["outcome"], each["detail"])):
        yield list(run)


def _attempt_row(alike: Sequence[dict[str, Any]], now: int) -> tuple[Any, ...]:
    last, first = alike[0], alike[-1]
    number, began, outcome = last["number"], format_relative(last["began_at"], now), last["outcome"] or "open"
    if len(alike) > 1:
        number, outcome = f"{first['number']} to {number}", f"{len(alike)} x {outcome}"
        began = f"{format_relative(first['began_at'], now)} to {began}"
    return number, began, outcome, last["detail"]


def _letter_row(view: dict[str, Any], now: int) -> tuple[Any, ...]:
    recovered = "yes" if view["recovered"] else "not yet"
    return view["id"], format_relative(view["received_at"], now), view["source"], recovered, summary(view["origin"]), view["body"]


def _show_origin(out: Output, letter: dict[str, Any]) -> None:
    """Show all that is known of where the latest letter comes from."""
    if letter["origin"]:
        out.line()
        out.line(f"Origin of letter {letter['id']}")
        out.facts({f"  {name}": value for name, value in facts(letter["origin"]).items()})
