"""`redrive rejects`: the dead letters that could not become needs, kept with their bytes and the reason."""

from typing import Annotated

import typer

from tasks.cli.jobs import MAX_ID
from tasks.cli.output import Column, Json, Output
from tasks.cli.text import relative


def rejects(
    *,
    reason: Annotated[str | None, typer.Option(metavar="REASON", help="Only letters that were rejected for this reason.")] = None,
    after: Annotated[int | None, typer.Option(metavar="ID", min=1, max=MAX_ID, help="Go on below this id.")] = None,
    limit: Annotated[int, typer.Option(metavar="N", min=1, max=10_000, help="At most so many.")] = 50,
    json: Json = False,
) -> None:
    """List rejected dead letters, newest first, and count them by reason."""
    from tasks.cli.session import existing_ledger
    from tasks.dlq.ledger.queries import list_rejected, reject_counts

    out = Output(json=json)
    with existing_ledger() as ledger, ledger.begin(read_only=True) as tx:
        views = list_rejected(tx, reason=reason, after=after, limit=limit)
        by_reason = {} if json else reject_counts(tx)
        now = tx.now()
    if json:
        for view in views:
            out.record(view)
        return
    if not views:
        known = ", ".join(by_reason)
        out.note(f"nothing was rejected for that; there is: {known}" if known else "nothing is rejected")
        return
    out.table([Column("Reason"), Column("Letters", right=True)], by_reason.items())
    out.line()
    out.table(
        [
            Column("Letter", right=True),
            Column("Received"),
            Column("Source", fold=True),
            Column("Reason"),
            Column("Detail", fold=True),
        ],
        [
            (view["id"], relative(view["received_at"], now), view["source"], view["reject_reason"], view["reject_detail"])
            for view in views
        ],
    )
    if len(views) == limit:
        out.note(f"there may be more: --after {views[-1]['id']}")
