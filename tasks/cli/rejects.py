"""`redrive rejects`: dead letters that could not be read, with their bytes and the reason."""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import typer

from tasks.cli.options import MAX_ID, After, Csv, Json, Limit, RejectedFor
from tasks.cli.origin import list_facts
from tasks.cli.output import Column, Output
from tasks.dlq.errors import NotFound, Refused
from tasks.dlq.text import format_relative

#: The columns of `--csv`: fields of `--json`. Their order and names stay; new ones are added at the end. There are no bodies.
_SHEET = ("id", "received_at", "source", "stream", "identity", "reject_reason", "reject_detail", "bytes")
_REASONS = (Column("Reason"), Column("Letters", right=True))
_LETTERS = (
    Column("Letter", right=True),
    Column("Received"),
    Column("Source", fold=True),
    Column("Reason"),
    Column("Detail", fold=True),
)


def rejects(
    letter_id: Annotated[
        int | None, typer.Argument(metavar="ID", min=1, max=MAX_ID, help="Show only this one, with everything that is known.")
    ] = None,
    *,
    body: Annotated[bool, typer.Option("--body", metavar="", help="Print the bytes as they arrived, and nothing else.")] = False,
    rejected_for: RejectedFor = None,
    after: After = None,
    limit: Limit = 50,
    csv: Csv = False,
    json: Json = False,
) -> None:
    """List rejected dead letters, the newest first, and count them by reason; or show one."""
    out = Output(json=json, csv=csv)
    if letter_id is None and body:
        raise Refused("--body is for one dead letter", hint="for example: redrive rejects 12 --body > body.json")
    if letter_id is not None and csv:
        raise Refused("--csv is for the list", hint=f"without an id, or: redrive rejects {letter_id} --json")
    if letter_id is None:
        _list(out, rejected_for, after, limit)
    else:
        _show(out, letter_id, body=body)


def _list(out: Output, rejected_for: str | None, after: int | None, limit: int) -> None:
    from tasks.cli.session import read_ledger
    from tasks.dlq.ledger.queries import list_rejected
    from tasks.dlq.ledger.repairs import Selection, count_by_reason

    with read_ledger() as tx:
        views = list_rejected(tx, reason=rejected_for, after=after, limit=limit)
        reasons = {} if out.json else count_by_reason(tx, Selection())
        now = tx.now()
    if out.json:
        for view in views:
            out.record(view)
    elif out.csv:
        out.sheet(_SHEET, ([view[name] for name in _SHEET] for view in views))
    elif views:
        _print_tables(out, views, reasons, now)
    elif reasons:
        out.note(f"no rejected dead letter matches; reasons: {', '.join(reasons)}")
    else:
        out.note("no dead letter is rejected")
    if len(views) == limit:
        out.note(f"there may be more: --after {views[-1]['id']}")
    if views and not out.csv:
        out.note("when the cause is fixed: redrive repair\nto correct one: redrive repair ID --body FILE")


def _print_tables(out: Output, views: Sequence[Mapping[str, Any]], reasons: Mapping[str, int], now: int) -> None:
    out.table(_REASONS, reasons.items())
    out.line()
    rows = [
        (view["id"], format_relative(view["received_at"], now), view["source"], view["reject_reason"], view["reject_detail"])
        for view in views
    ]
    out.table(_LETTERS, rows)


def _show(out: Output, letter_id: int, *, body: bool) -> None:
    from tasks.cli.session import read_ledger
    from tasks.dlq.ledger.queries import list_rejected
    from tasks.dlq.ledger.repairs import find_original_body

    with read_ledger() as tx:
        arrived = find_original_body(tx, letter_id)
        found = list_rejected(tx, after=letter_id + 1, limit=1) if letter_id < MAX_ID else []
        now = tx.now()
    if body and out.json:
        out.record({"id": letter_id, "bytes": len(arrived), "base64": b64encode(arrived).decode()})
    elif body:
        out.raw(arrived)
    elif not found or found[0]["id"] != letter_id:
        raise NotFound(f"dead letter {letter_id} is not rejected", hint="--body prints its bytes all the same")
    elif out.json:
        out.record(found[0])
    else:
        _print_facts(out, found[0], now)


def _print_facts(out: Output, view: Mapping[str, Any], now: int) -> None:
    out.facts(
        {
            "letter": view["id"],
            "source": view["source"],
            "identity": view["identity"],
            "stream": view["stream"],
            "received": f"{view['received_at']} ({format_relative(view['received_at'], now)})",
            "reason": view["reject_reason"],
            "detail": view["reject_detail"],
            **{f"origin.{name}": value for name, value in list_facts(view["origin"]).items()},
            "bytes": f"{view['bytes']:,}",
            "body": view["body"],
        }
    )
    name, file = view["id"], f"{view['id']}.json"
    out.note(
        f"when the cause is fixed: redrive repair {name}\n"
        f"or by other bytes: redrive rejects {name} --body > {file}; edit it; redrive repair {name} --body {file}"
    )
