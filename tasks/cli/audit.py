"""`redrive audit` and `redrive stats`: the proof that nothing was lost, and where everything stands."""

from collections.abc import Iterator
from typing import Any

from tasks.cli.errors import NotBalanced
from tasks.cli.output import Column, Json, Output
from tasks.cli.text import counted, relative


def audit(*, json: Json = False) -> None:
    """Prove that nothing was lost: every accepted dead letter is in exactly one of five states. Exit code 1 when not."""
    from tasks.cli.session import existing_ledger
    from tasks.dlq.ledger.audit import STANDINGS
    from tasks.dlq.ledger.audit import audit as count_all

    out = Output(json=json)
    with existing_ledger() as ledger, ledger.begin(read_only=True) as tx:
        sums = count_all(tx).as_dict()
    if json:
        out.record(sums)
    else:
        names = ("accepted", *STANDINGS, "lost")
        lines = [*sums["sources"].items(), ("all", sums)]
        columns = [Column("Source", fold=True), *(Column(name.capitalize(), right=True) for name in names)]
        out.table(columns, [(source, *(f"{each[name]:,}" for name in names)) for source, each in lines])
    if not sums["balanced"]:
        wrong = ", ".join(f"{name} {each['lost']:+,}" for name, each in sums["sources"].items() if not each["balanced"])
        hint = "this must not happen: keep the ledger's file, or a dump, and report it"
        raise NotBalanced(f"NOT BALANCED: accepted and not accounted for (below zero: counted twice): {wrong}", hint=hint)
    if not json:
        out.line(f"balanced: {counted(sums['accepted'], 'dead letter')} accepted, every one accounted for")


def stats(*, json: Json = False) -> None:
    """Count the jobs of each route by state, and tell what holds a route up."""
    from tasks.cli.session import existing_ledger
    from tasks.dlq.job import State
    from tasks.dlq.ledger.queries import counts, route_states
    from tasks.settings import settings

    out = Output(json=json)
    with existing_ledger() as ledger, ledger.begin(read_only=True) as tx:
        by_route, states, now = counts(tx), route_states(tx), tx.now()
    configured = settings().routes
    views = [
        {**each, "configured": each["route"] in configured, "jobs": dict.fromkeys(State, 0) | by_route.get(each["route"], {})}
        for each in states
        if each["route"] in configured or each["route"] in by_route
    ]
    if json:
        for view in views:
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


def _held_up_by(view: dict[str, Any], now: int) -> Iterator[str]:
    if view["paused"]:
        yield f"paused by {view['paused_by']} {relative(view['paused_at'], now)}: {view['pause_reason'] or 'no reason given'}"
    if view["breaker"] == "open":
        yield "the breaker is open; one call at a time probes the API"
    if (wait := relative(view["not_before"], now)).startswith("in "):
        yield f"the API asked for no call before {view['not_before']} ({wait})"
