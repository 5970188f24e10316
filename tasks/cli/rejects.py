"""`redrive rejects`: the dead letters that could not become needs, kept with their bytes and the reason."""

from base64 import b64encode
from typing import Annotated, Any

import typer

from tasks.cli.jobs import MAX_ID
from tasks.cli.origin import facts
from tasks.cli.output import Column, Csv, Json, Output
from tasks.dlq.errors import NotFound, Refused
from tasks.dlq.text import format_relative

#: What `--csv` has: fields of `--json`, whose order and names stay; new ones come last. Bodies are no cells.
_SHEET = ("id", "received_at", "source", "stream", "identity", "reject_reason", "reject_detail", "bytes")


def rejects(
    letter_id: Annotated[
        int | None, typer.Argument(metavar="ID", min=1, max=MAX_ID, help="Only this one, with all that is known of it.")
    ] = None,
    *,
    body: Annotated[
        bool, typer.Option("--body", metavar="", help="Print the bytes of the letter as they arrived, and nothing else.")
    ] = False,
    reason: Annotated[str | None, typer.Option(metavar="REASON", help="Only letters that were rejected for this reason.")] = None,
    after: Annotated[int | None, typer.Option(metavar="ID", min=1, max=MAX_ID, help="Go on below this id.")] = None,
    limit: Annotated[int, typer.Option(metavar="N", min=1, max=10_000, help="At most so many.")] = 50,
    csv: Csv = False,
    json: Json = False,
) -> None:
    """List rejected dead letters, newest first, and count them by reason; or show one."""
    from tasks.dlq.ledger.queries import list_rejected, reject_counts
    from tasks.ledger_setup import open_ledger
    from tasks.settings import settings

    out = Output(json=json, csv=csv)
    if letter_id is not None:
        if csv:
            raise Refused("--csv is for the list", hint=f"without an id, or: redrive rejects {letter_id} --json")
        _show(out, letter_id, body=body)
        return
    if body:
        raise Refused("--body is for one letter", hint="for example: redrive rejects 12 --body > body.json")
    with open_ledger(settings()) as ledger, ledger.begin(read_only=True) as tx:
        views = list_rejected(tx, reason=reason, after=after, limit=limit)
        by_reason = {} if json else reject_counts(tx)
        now = tx.now()
    if json:
        for view in views:
            out.record(view)
    elif csv:
        out.sheet(_SHEET, ([view[name] for name in _SHEET] for view in views))
    elif views:
        _tables(out, views, by_reason, now)
    else:
        known = ", ".join(by_reason)
        out.note(f"nothing was rejected for that; there is: {known}" if known else "nothing is rejected")
    if len(views) == limit:
        out.note(f"there may be more: --after {views[-1]['id']}")
    if views and not csv:
        out.note("when the cause is mended: redrive repair\nto mend one by other bytes: redrive repair ID --body FILE")


_REASONS = (Column("Reason"), Column("Letters", right=True))
_LETTERS = (
    Column("Letter", right=True),
    Column("Received"),
    Column("Source", fold=True),
    Column("Reason"),
    Column("Detail", fold=True),
)


def _tables(out: Output, views: list[dict[str, Any]], by_reason: dict[str, int], now: int) -> None:
    out.table(_REASONS, by_reason.items())
    out.line()
    out.table(
        _LETTERS,
        [
            (view["id"], format_relative(view["received_at"], now), view["source"], view["reject_reason"], view["reject_detail"])
            for view in views
        ],
    )


def _show(out: Output, letter_id: int, *, body: bool) -> None:
    from tasks.dlq.ledger.queries import list_rejected
    from tasks.dlq.ledger.repairs import original_body
    from tasks.ledger_setup import open_ledger
    from tasks.settings import settings

    with open_ledger(settings()) as ledger, ledger.begin(read_only=True) as tx:
        arrived = original_body(tx, letter_id)
        found = list_rejected(tx, after=letter_id + 1, limit=1) if letter_id < MAX_ID else []
        now = tx.now()
    if body and out.json:
        out.record({"id": letter_id, "bytes": len(arrived), "base64": b64encode(arrived).decode()})
    elif body:
        out.raw(arrived)
    elif not found or found[0]["id"] != letter_id:
        raise NotFound(f"letter {letter_id} is not rejected", hint="--body prints its bytes all the same")
    elif out.json:
        out.record(found[0])
    else:
        _facts(out, found[0], now)


def _facts(out: Output, view: dict[str, Any], now: int) -> None:
    out.facts(
        {
            "letter": view["id"],
            "source": view["source"],
            "identity": view["identity"],
            "stream": view["stream"],
            "received": f"{view['received_at']} ({format_relative(view['received_at'], now)})",
            "reason": view["reject_reason"],
            "detail": view["reject_detail"],
            **{f"origin.{name}": value for name, value in facts(view["origin"]).items()},
            "bytes": f"{view['bytes']:,}",
            "body": view["body"],
        }
    )
    name = f"{view['id']}.json"
    out.note(
        f"when the cause is mended: redrive repair {view['id']}\n"
        f"or by other bytes: redrive rejects {view['id']} --body > {name}; edit it; redrive repair {view['id']} --body {name}"
    )
