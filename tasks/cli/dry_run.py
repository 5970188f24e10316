"""`redrive intake --dry-run`: shows what would become of the records in the sources. It keeps and acknowledges nothing."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any

from tasks.adapters import logs
from tasks.cli.errors import Partly
from tasks.cli.output import Column, Output
from tasks.cli.session import Session
from tasks.dlq.errors import BrokerUnavailable, OutOfReach, Refused
from tasks.dlq.text import format_parameters
from tasks.settings import settings
from tasks.settings.keys import suggestion
from tasks.sources import kinds_of

if TYPE_CHECKING:
    from tasks.dlq.dead_letter import DeadLetter
    from tasks.dlq.ports import Record
    from tasks.runtime import Runtime

#: Records of each source that are read by default.
LIMIT = 50
#: Needs that are shown of one record.
_MAX_NEEDS = 3


def dry_run(out: Output, *, source: str | None, limit: int) -> None:
    """Read up to `limit` records of each source, or of one. Raises Refused; Partly or OutOfReach if a source does not answer."""
    configured = settings().sources
    if source is not None and source not in configured:
        hint = suggestion(source, configured) or f"sources of redrive.toml: {', '.join(configured) or 'none'}"
        raise Refused(f"there is no source {source!a}", hint=hint)
    logs.configure("ERROR", json=out.json, secrets=settings().secrets())
    runtime = Session().runtime
    names = list(configured) if source is None else [source]
    counts: Counter[tuple[str, str]] = Counter()
    failed: list[str] = []
    try:
        for name in names:
            try:
                _look_at(out, runtime, name, limit, counts)
            except BrokerUnavailable as error:
                failed.append(name)
                out.warn(f"source {name} was not read: {error.message}", hint=error.hint, source=name)
    finally:
        runtime.close()
    if not out.json and counts:
        columns = [Column("Source", fold=True), Column("Would become", fold=True), Column("Records", right=True)]
        out.table(columns, [(name, became, f"{count:,}") for (name, became), count in sorted(counts.items())])
    if failed:
        text, hint = f"not read: {', '.join(failed)}", "nothing was changed"
        if len(failed) < len(names):
            raise Partly(text, hint=hint)
        raise OutOfReach(text, hint=hint)
    out.note("nothing was kept or acknowledged" if counts else "there are no records")


def _look_at(out: Output, runtime: Runtime, name: str, limit: int, counts: Counter[tuple[str, str]]) -> None:
    rows: list[tuple[str, str]] = []
    rejected = 0
    kind = kinds_of(settings())[name]
    with kind.sample(kind.specify(settings(), name), limit) as records:
        for record in records:
            letter = runtime.readers[name].read(name, record)
            rejected += letter.rejection is not None
            counts[name, f"rejected: {letter.rejection.reason}" if letter.rejection else letter.route] += 1
            rows.append((_format_place(record), _format_letter(letter)))
            if out.json:
                out.record(_view(record, letter))
    if out.json:
        out.record({"source": name, "records": len(rows), "mapped": len(rows) - rejected, "rejected": rejected})
    elif rows:
        out.table([Column(f"Record of {name}", fold=True), Column("Would become", fold=True)], rows)
        out.line()
    if rows and kind.sample_warning:
        warning, hint = kind.sample_warning
        out.warn(f"source {name}: {warning}", hint=hint, source=name)
    if len(rows) == limit:
        out.note(f"there may be more in {name}: --limit N")


def _format_place(record: Record) -> str:
    return record.identity if record.offset is None else f"{record.stream}@{record.offset}"


def _format_letter(letter: DeadLetter) -> str:
    if letter.rejection:
        return f"rejected, {letter.rejection.reason}: {letter.rejection.detail}"
    needs = ", ".join(format_parameters(json.loads(key)) for key in letter.keys[:_MAX_NEEDS])
    more = len(letter.keys) - _MAX_NEEDS
    return f"{letter.route} {needs}{f' and {more:,} more' if more > 0 else ''}"


def _view(record: Record, letter: DeadLetter) -> dict[str, Any]:
    view: dict[str, Any] = {"source": letter.source, "identity": record.identity, "origin": record.origin}
    if letter.rejection:
        return {**view, "result": "rejected", "reason": letter.rejection.reason, "detail": letter.rejection.detail}
    return {**view, "result": "mapped", "route": letter.route, "parameters": [json.loads(key) for key in letter.keys]}
