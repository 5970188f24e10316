"""`redrive jobs` and `redrive show`: what has to be called, and the result."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import Annotated, Any

import typer

from tasks.cli.options import MAX_ID, After, Csv, Json, Limit, complete_route
from tasks.cli.origin import list_facts, summarize
from tasks.cli.output import Column, Output
from tasks.dlq.calls.breaker import FAULTS
from tasks.dlq.calls.outcome import Outcome
from tasks.dlq.job import WAITING, State
from tasks.dlq.text import format_count, format_parameters, format_relative

#: Attempts and dead letters that are shown of a job.
_LATEST = 50
#: Outcomes that use up no attempt of the budget, in words.
_FREE = {
    Outcome.REFUSED: "refused (401, 403)",
    Outcome.NOT_SENT: "not sent",
    Outcome.LOST: "lost with their worker",
}
_STATE_HELP = f"Only jobs in this state ({', '.join(State)}). May be given more than once."


def jobs(
    *,
    state: Annotated[list[State] | None, typer.Option(metavar="STATE", help=_STATE_HELP)] = None,
    route: Annotated[
        str | None, typer.Option(metavar="ROUTE", help="Only jobs of this route.", autocompletion=complete_route)
    ] = None,
    group: Annotated[
        str | None, typer.Option(metavar="GROUP", help="Only jobs of this failure group; redrive show prints it.")
    ] = None,
    after: After = None,
    limit: Limit = 50,
    csv: Csv = False,
    json: Json = False,
) -> None:
    """List jobs, the newest first."""
    from tasks.cli.session import read_ledger
    from tasks.dlq.ledger.queries import list_jobs
    from tasks.settings import settings

    out = Output(json=json, csv=csv)
    with read_ledger() as tx:
        views = list_jobs(tx, route=route, states=state or (), group=group, after=after, limit=limit)
        now = tx.now()
    if route and not views:
        settings().route(route)  # an unknown name is refused: it is a slip
    if json:
        for view in views:
            out.record(view)
    elif csv:
        out.sheet(_SHEET, ([_cell(view[name]) for name in _SHEET] for view in views))
    elif views:
        out.table(_COLUMNS, [_job_row(view, now) for view in views])
    else:
        out.note("no job matches" if state or route or group or after else "there are no jobs yet")
    if len(views) == limit:
        out.note(f"there may be more: --after {views[-1]['id']}")


def show(
    job_id: Annotated[int, typer.Argument(metavar="ID", min=1, max=MAX_ID, help="A job's id; redrive jobs lists them.")],
    *,
    json: Json = False,
) -> None:
    """Show one job with its latest attempts and dead letters."""
    from tasks.cli.session import read_ledger
    from tasks.dlq.ledger.queries import show_job

    out = Output(json=json)
    with read_ledger() as tx:
        view = show_job(tx, job_id, limit=_LATEST)
        now = tx.now()
    if json:
        out.record(view)
        return
    _show_facts(out, view, now)
    if view["attempts_made"]:
        out.line()
        out.table(_ATTEMPT_COLUMNS, [_attempt_row(run, now) for run in _group_alike(view["attempts_made"])])
    if view["dead_letters"]:
        out.line()
        out.table(_LETTER_COLUMNS, [_letter_row(letter, now) for letter in view["dead_letters"]])
        _show_origin(out, view["dead_letters"][0])
    if view["state"] == State.PARKED:
        out.note(f"when the cause is fixed: redrive replay {job_id}\nto give up: redrive discard {job_id}")
    if len(view["attempts_made"]) == _LATEST < view["calls"]:
        out.note(f"these are the latest {_LATEST} of {view['calls']:,} attempts")
    if len(view["dead_letters"]) == _LATEST < view["needs"]:
        out.note(f"these are the latest {_LATEST} of {view['needs']:,} dead letters")


_COLUMNS = (
    Column("ID", right=True),
    Column("State"),
    Column("Route", fold=True),
    Column("Parameters", fold=True),
    Column("Needs", right=True),
    Column("When"),
    Column("Last answer", cut=True),
)
#: The columns of `--csv`: fields of `--json`. Their order and names stay; new ones are added at the end.
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


def _job_row(view: dict[str, Any], now: int) -> tuple[Any, ...]:
    return (
        view["id"],
        view["state"],
        view["route"],
        format_parameters(view["parameters"]),
        f"{view['covered']}/{view['needs']}",
        format_when(view, now),
        view["detail"] or view["outcome"],
    )


def format_when(view: dict[str, Any], now: int) -> str:
    """Return when a waiting job is due; for another job, when its state changed."""
    if view["state"] not in WAITING:
        return format_relative(view["changed_at"], now)
    due = format_relative(view["due_at"], now)
    return due if due.startswith("in ") else "due"


def _cell(value: Any) -> Any:
    return format_parameters(value) if isinstance(value, dict) else value


def _show_facts(out: Output, view: dict[str, Any], now: int) -> None:
    facts = {
        "job": view["id"],
        "state": view["state"],
        "route": view["route"],
        "parameters": format_parameters(view["parameters"]),
        "needs": f"{view['needs']:,}, {view['covered']:,} of them covered by a success",
        "due": f"{view['due_at']} ({format_when(view, now)})" if view["state"] in WAITING else "",
        "calls": f"{view['calls']:,} in total",
        "budget": _budget(view),
        "crashes": view["crashes"] or "",
        "last answer": view["detail"] or view["outcome"],
        "group": view["group"],
        "created": f"{view['created_at']} ({format_relative(view['created_at'], now)})",
        "changed": f"{view['changed_at']} ({format_relative(view['changed_at'], now)})",
    }
    out.facts(facts)


def _budget(view: dict[str, Any]) -> str:
    """Describe how many attempts are used since the job was scheduled; for a closed job, how many a later failure gets."""
    from tasks.settings import settings

    route = settings().routes.get(view["route"])
    if route is None:
        return "none: the route is not in redrive.toml any more"
    whole = format_count(route.retry.max_attempts, "attempt")
    if view["state"] in {State.COMPLETED, State.DISCARDED}:
        return f"{whole}, for a later failure or a replay"
    return f"{view['attempts']:,} of {whole} used since it was scheduled{_free_calls(view)}"


def _free_calls(view: dict[str, Any]) -> str:
    """Describe the calls that used up no attempt, and the possible reasons: the ledger keeps only their outcomes."""
    if (free := view["calls"] - view["attempts"] - (view["state"] == State.EXECUTING)) <= 0:
        return ""
    outcomes = {attempt["outcome"] for attempt in view["attempts_made"]}
    reasons = ["made before that"]
    if outcomes & FAULTS:
        reasons.append("failed while the breaker was open")
    reasons += [words for outcome, words in _FREE.items() if outcome in outcomes]
    return f"; not counted: {format_count(free, 'call')} ({' or '.join(reasons)})"


def _group_alike(attempts: Sequence[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    """Yield runs of attempts with the same result, the latest first."""
    for _, run in groupby(attempts, key=lambda attempt: (attempt["outcome"], attempt["detail"])):
        yield list(run)


def _attempt_row(run: Sequence[dict[str, Any]], now: int) -> tuple[Any, ...]:
    last, first = run[0], run[-1]
    number, began, outcome = last["number"], format_relative(last["began_at"], now), last["outcome"] or "open"
    if len(run) > 1:
        number, outcome = f"{first['number']} to {number}", f"{len(run)} x {outcome}"
        began = f"{format_relative(first['began_at'], now)} to {began}"
    return number, began, outcome, last["detail"]


def _letter_row(view: dict[str, Any], now: int) -> tuple[Any, ...]:
    recovered = "yes" if view["recovered"] else "not yet"
    return (
        view["id"],
        format_relative(view["received_at"], now),
        view["source"],
        recovered,
        summarize(view["origin"]),
        view["body"],
    )


def _show_origin(out: Output, letter: dict[str, Any]) -> None:
    """Show everything that is known about the origin of the latest letter."""
    if letter["origin"]:
        out.line()
        out.line(f"Origin of letter {letter['id']}")
        out.facts({f"  {name}": value for name, value in list_facts(letter["origin"]).items()})
