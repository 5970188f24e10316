"""`redrive audit`: checks that nothing was lost."""

from collections.abc import Mapping
from typing import Any

from tasks.cli.errors import NotBalanced
from tasks.cli.options import Json
from tasks.cli.output import Column, Output
from tasks.dlq.text import format_count


def audit(*, json: Json = False) -> None:
    """Check that nothing was lost: each accepted dead letter is in exactly one of five states.

    Exit code 1 if that is not so.
    """
    from tasks.cli.session import read_ledger
    from tasks.dlq.ledger.audit import STANDINGS
    from tasks.dlq.ledger.audit import audit as count_all

    out = Output(json=json)
    with read_ledger() as tx:
        sums = count_all(tx).as_dict()
    if json:
        out.record(sums)
    else:
        names = ("accepted", *STANDINGS, "lost")
        columns = [Column("Source", fold=True), *(Column(name.capitalize(), right=True) for name in names)]
        lines = [*sums["sources"].items(), ("all", sums)]
        out.table(columns, [(source, *(f"{line[name]:,}" for name in names)) for source, line in lines])
        _print_offsets(out, sums["sources"])
    if not sums["balanced"]:
        wrong = ", ".join(f"{name} {line['lost']:+,}" for name, line in sums["sources"].items() if not line["balanced"])
        hint = "this is a fault in Redrive: keep the ledger's file, or a dump, and report it"
        raise NotBalanced(f"NOT BALANCED: lost (below zero: counted twice): {wrong}", hint=hint)
    if not json:
        out.line(f"balanced: {format_count(sums['accepted'], 'dead letter')} accepted, every one accounted for")


def _print_offsets(out: Output, sources: Mapping[str, Mapping[str, Any]]) -> None:
    """Print the first and last offset of each partition, for sources that have any."""
    names = ("accepted", "first_offset", "last_offset", "gaps")
    rows = [
        (source, stream, *(f"{reach[name]:,}" for name in names))
        for source, sums in sources.items()
        for stream, reach in sums.get("streams", {}).items()
    ]
    if rows:
        numbers = [Column(title, right=True) for title in ("Accepted", "First", "Last", "Gaps")]
        out.table([Column("Source", fold=True), Column("Partition", fold=True), *numbers], rows)
