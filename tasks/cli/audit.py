"""`redrive audit`: the proof that nothing was lost."""

from collections.abc import Mapping
from typing import Any

from tasks.cli.errors import NotBalanced
from tasks.cli.output import Column, Json, Output
from tasks.dlq.text import format_count


def audit(*, json: Json = False) -> None:
    """Prove that nothing was lost: every accepted dead letter is in exactly one of five states. Exit code 1 when not."""
    from tasks.dlq.ledger.audit import STANDINGS
    from tasks.dlq.ledger.audit import audit as count_all
    from tasks.ledger_setup import open_ledger
    from tasks.settings import settings

    out = Output(json=json)
    with open_ledger(settings()) as ledger, ledger.begin(read_only=True) as tx:
        sums = count_all(tx).as_dict()
    if json:
        out.record(sums)
    else:
        names = ("accepted", *STANDINGS, "lost")
        lines = [*sums["sources"].items(), ("all", sums)]
        columns = [Column("Source", fold=True), *(Column(name.capitalize(), right=True) for name in names)]
        out.table(columns, [(source, *(f"{each[name]:,}" for name in names)) for source, each in lines])
        _show_reach(out, sums["sources"])
    if not sums["balanced"]:
        wrong = ", ".join(f"{name} {each['lost']:+,}" for name, each in sums["sources"].items() if not each["balanced"])
        hint = "this must not happen: keep the ledger's file, or a dump, and report it"
        raise NotBalanced(f"NOT BALANCED: accepted and not accounted for (below zero: counted twice): {wrong}", hint=hint)
    if not json:
        out.line(f"balanced: {format_count(sums['accepted'], 'dead letter')} accepted, every one accounted for")


def _show_reach(out: Output, sources: Mapping[str, Mapping[str, Any]]) -> None:
    """Show how far the offsets of each partition reach, for sources that have any."""
    names = ("accepted", "first_offset", "last_offset", "gaps")
    rows = [
        (source, stream, *(f"{reach[name]:,}" for name in names))
        for source, sums in sources.items()
        for stream, reach in sums.get("streams", {}).items()
    ]
    if rows:
        titles = ("Accepted", "First", "Last", "Gaps")
        out.table(
            [Column("Source", fold=True), Column("Partition", fold=True), *(Column(each, right=True) for each in titles)], rows
        )
