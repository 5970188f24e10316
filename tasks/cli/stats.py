"""`redrive stats`: where the jobs of each route stand, what holds a route up, and how far Kafka's topics are ahead."""

from collections.abc import Iterator
from dataclasses import asdict
from typing import Any

from tasks.cli.output import Column, Json, Output
from tasks.dlq.text import format_relative


def stats(*, json: Json = False) -> None:
    """Count the jobs of each route by state, tell what holds a route up, and how far each Kafka source is behind."""
    from tasks.dlq.job import State
    from tasks.dlq.ledger.queries import counts, route_states
    from tasks.ledger_setup import open_ledger
    from tasks.settings import settings

    out = Output(json=json)
    with open_ledger(settings()) as ledger, ledger.begin(read_only=True) as tx:
        by_route, states, now = counts(tx), route_states(tx), tx.now()
    configured = settings().routes
    views = [
        {**each, "configured": each["route"] in configured, "jobs": dict.fromkeys(State, 0) | by_route.get(each["route"], {})}
        for each in states
        if each["route"] in configured or each["route"] in by_route
    ]
    behind = list(_lags())
    if json:
        for view in [*views, *behind]:
            out.record(view)
        return
    columns = [Column("Route", fold=True), *(Column(state.capitalize(), right=True) for state in State)]
    out.table(columns, [(view["route"], *(f"{count:,}" for count in view["jobs"].values())) for view in views])
    for view in views:
        for reason in _held_up_by(view, now):
            out.line(f"{view['route']} is held up: {reason}")
        if view["paused"] and view["configured"]:
            out.line(f"  let it go on with: redrive resume {view['route']}")
        if not view["configured"]:
            out.line(f"{view['route']} is not configured any more: its jobs wait until it is, or are discarded")
    if not views:
        out.note("no route has had a job yet")
    _show_lags(out, behind)


def _held_up_by(view: dict[str, Any], now: int) -> Iterator[str]:
    if view["paused"]:
        since = format_relative(view["paused_at"], now)
        yield f"paused by {view['paused_by']} {since}: {view['pause_reason'] or 'no reason given'}"
    if view["breaker"] == "open":
        yield "the breaker is open; one call at a time probes the API"
    if (wait := format_relative(view["not_before"], now)).startswith("in "):
        yield f"no call before {view['not_before']} ({wait}): the API said Retry-After, or the ledger has just been imported"


def _lags() -> Iterator[dict[str, Any]]:
    """Yield how far each Kafka source is behind; a cluster that does not answer says so in its place."""
    from tasks.adapters import logs
    from tasks.cli.session import Session
    from tasks.dlq.errors import RedriveError
    from tasks.settings import settings

    if settings().kafka_sources:
        logs.configure("ERROR", secrets=settings().secrets())
    for name in settings().kafka_sources:
        try:
            partitions = [{**asdict(each), "lag": each.lag} for each in Session().runtime.lags(name)]
            yield {"source": name, "partitions": partitions}
        except RedriveError as error:
            yield {"source": name, "error": error.message}


def _show_lags(out: Output, behind: list[dict[str, Any]]) -> None:
    rows = [_lag_row(each["source"], **partition) for each in behind for partition in each.get("partitions", ())]
    if rows:
        names, numbers = ("Source", "Partition"), ("Lag", "Next")
        out.table([*(Column(name, fold=True) for name in names), *(Column(name, right=True) for name in numbers)], rows)
    for each in behind:
        if "error" in each:
            out.warn(f"the lag of {each['source']} is not known: {each['error']}")
        elif not each["partitions"]:
            out.note(f"{each['source']}: none of its topics exists yet")


def _lag_row(source: str, *, topic: str, partition: int, lag: int, committed: int | None, **_: Any) -> tuple[str, ...]:
    return source, f"{topic}/{partition}", f"{lag:,}", "-" if committed is None else f"{committed:,}"
