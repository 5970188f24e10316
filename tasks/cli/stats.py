"""`redrive stats`: jobs by route and state, what stops a route, and the lag of Kafka sources."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from tasks.cli.options import Json
from tasks.cli.output import Column, Output
from tasks.dlq.text import format_relative


def stats(*, json: Json = False) -> None:
    """Count the jobs of each route by state, and show what stops a route and the lag of each Kafka source."""
    from tasks.cli.session import read_ledger
    from tasks.dlq.job import State
    from tasks.dlq.ledger.queries import count_jobs, list_routes
    from tasks.settings import settings

    out = Output(json=json)
    with read_ledger() as tx:
        jobs, routes, now = count_jobs(tx), list_routes(tx), tx.now()
    configured = settings().routes
    views = [
        {**view, "configured": view["route"] in configured, "jobs": dict.fromkeys(State, 0) | jobs.get(view["route"], {})}
        for view in routes
        if view["route"] in configured or view["route"] in jobs
    ]
    lags = list(_fetch_lags())
    if json:
        for view in [*views, *lags]:
            out.record(view)
        return
    columns = [Column("Route", fold=True), *(Column(state.capitalize(), right=True) for state in State)]
    out.table(columns, [(view["route"], *(f"{count:,}" for count in view["jobs"].values())) for view in views])
    for view in views:
        _print_stops(out, view, now)
    if not views:
        out.note("no route has had a job yet")
    _print_lags(out, lags)


def _print_stops(out: Output, view: Mapping[str, Any], now: int) -> None:
    """Print what stops a route."""
    route = view["route"]
    if view["paused"]:
        since = format_relative(view["paused_at"], now)
        out.line(f"{route} is paused by {view['paused_by']} {since}: {view['pause_reason'] or 'no reason given'}")
        if view["configured"]:
            out.line(f"  to continue: redrive resume {route}")
    if view["breaker"] == "open":
        out.line(f"{route} waits: the breaker is open; one call at a time probes the API")
    if (wait := format_relative(view["not_before"], now)).startswith("in "):
        out.line(f"{route} waits until {view['not_before']} ({wait}): Retry-After, or a recent import")
    if not view["configured"]:
        out.line(f"{route} is not in redrive.toml any more: its jobs wait until it is, or are discarded")


def _fetch_lags() -> Iterator[dict[str, Any]]:
    """Yield the lag of each source that has offsets, or the error of its cluster."""
    from tasks.adapters import logs
    from tasks.dlq.errors import RedriveError
    from tasks.settings import settings
    from tasks.sources import kinds_of

    logs.configure("ERROR", secrets=settings().secrets())
    for name, kind in kinds_of(settings()).items():
        try:
            lags = kind.read_lags(kind.specify(settings(), name))
        except RedriveError as error:
            yield {"source": name, "error": error.message}
            continue
        if lags is not None:
            yield {"source": name, "partitions": [{**asdict(lag), "lag": lag.lag} for lag in lags]}


def _print_lags(out: Output, lags: Sequence[Mapping[str, Any]]) -> None:
    rows = [_lag_row(source["source"], partition) for source in lags for partition in source.get("partitions", ())]
    if rows:
        columns = [
            Column("Source", fold=True),
            Column("Partition", fold=True),
            Column("Lag", right=True),
            Column("Next", right=True),
        ]
        out.table(columns, rows)
    for source in lags:
        if "error" in source:
            out.warn(f"the lag of {source['source']} is not known: {source['error']}")
        elif not source["partitions"]:
            out.note(f"{source['source']}: none of its topics exists yet")


def _lag_row(source: str, partition: Mapping[str, Any]) -> tuple[str, ...]:
    committed = partition["committed"]
    place = f"{partition['topic']}/{partition['partition']}"
    return source, place, f"{partition['lag']:,}", "-" if committed is None else f"{committed:,}"
