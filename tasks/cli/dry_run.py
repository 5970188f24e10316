"""`redrive intake --dry-run`: what would become of the records that the sources hold. Nothing is kept, nothing acknowledged."""

from __future__ import annotations

import json
from collections import Counter
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any

from tasks.adapters import logs
from tasks.adapters.kafka.sample import sample
from tasks.adapters.sqs import GIVEN_BACK
from tasks.cli.errors import Partly
from tasks.cli.output import Column, Output
from tasks.cli.session import Session
from tasks.continuous_intake import SHORT_POLL
from tasks.dlq.errors import BrokerUnavailable, OutOfReach, Refused
from tasks.dlq.text import format_count, format_parameters
from tasks.settings import settings
from tasks.settings.keys import suggestion

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tasks.dlq.dead_letter import DeadLetter
    from tasks.dlq.ports import Record, Source
    from tasks.runtime import Runtime

#: Records that are looked at of each source, unless it is said how many.
LIMIT = 50
#: Needs that are shown of one record.
_SHOWN = 3


def dry_run(out: Output, *, source: str | None, limit: int) -> None:
    """Look at up to `limit` records of each source, or of one. Raises Refused; Partly or OutOfReach for what does not answer."""
    configured = settings().sources
    if source is not None and source not in configured:
        near = suggestion(source, configured)
        raise Refused(
            f"there is no source {source!a}", hint=near or f"sources of redrive.toml: {', '.join(configured) or 'none'}"
        )
    logs.configure("ERROR", json=out.json, secrets=settings().secrets())
    runtime = Session().runtime
    seen: Counter[tuple[str, str]] = Counter()
    left: list[str] = []
    try:
        for name in configured if source is None else [source]:
            try:
                _look_at(out, runtime, name, limit, seen)
            except BrokerUnavailable as error:
                left.append(name)
                out.warn(f"source {name} was not looked at: {error.message}", hint=error.hint, source=name)
    finally:
        runtime.close()
    if not out.json and seen:
        columns = [Column("Source", fold=True), Column("Would become", fold=True), Column("Records", right=True)]
        out.table(columns, [(*what, f"{count:,}") for what, count in sorted(seen.items())])
    if left:
        told = f"not looked at: {', '.join(left)}"
        raise (Partly if len(left) < len(configured) and source is None else OutOfReach)(told, hint="nothing was changed")
    out.note("nothing was kept, and nothing acknowledged" if seen else "there is nothing to look at")


def _look_at(out: Output, runtime: Runtime, name: str, limit: int, seen: Counter[tuple[str, str]]) -> None:
    rows: list[tuple[str, str]] = []
    rejected = 0
    with _records(out, runtime, name, limit) as records:
        for record in records:
            letter = runtime.readers[name].read(name, record)
            rejected += letter.rejection is not None
            seen[name, f"rejected: {letter.rejection.reason}" if letter.rejection else letter.route] += 1
            rows.append((_place(record), _became(letter)))
            if out.json:
                out.record(_view(record, letter))
    if out.json:
        out.record({"source": name, "records": len(rows), "mapped": len(rows) - rejected, "rejected": rejected})
    elif rows:
        out.table([Column(f"Record of {name}", fold=True), Column("Would become", fold=True)], rows)
        out.line()
    if len(rows) == limit:
        out.note(f"there may be more in {name}: --limit N")


@contextmanager
def _records(out: Output, runtime: Runtime, name: str, limit: int) -> Iterator[Iterator[Record]]:
    """Yield up to `limit` records of a source; at the end all that were taken are given back."""
    table = settings().kafka_sources.get(name)
    if table:
        found = sample(
            name,
            bootstrap=table.bootstrap,
            topics=table.topics,
            group=table.group,
            properties=settings().kafka_properties(name),
            headers=table.header_names,
        )
        try:
            yield islice(found, limit)
        finally:
            found.close()
        return
    source = next(each for each, _ in runtime.sources if each.name == name)
    taken: dict[str, Record] = {}
    try:
        yield _received(source, taken, limit)
    finally:
        source.give_back(list(taken.values()))
        if taken:
            text = f"{format_count(len(taken), 'message')} of {name}: SQS counts one receive more of each"
            hint = f"its redrive policy does, too (maxReceiveCount); they are back after {GIVEN_BACK} s"
            out.warn(text, hint=hint, source=name)


def _received(source: Source, taken: dict[str, Record], limit: int) -> Iterator[Record]:
    """Yield records, and note in `taken` what is to be given back, without the bodies."""
    left = limit
    while left:
        fresh = [each for each in source.receive(wait=SHORT_POLL) if each.identity not in taken]
        taken |= {each.identity: replace(each, body=b"") for each in fresh}
        yield from fresh[:left]
        left -= len(fresh[:left])
        if not fresh:
            return


def _place(record: Record) -> str:
    return record.identity if record.offset is None else f"{record.stream}@{record.offset}"


def _became(letter: DeadLetter) -> str:
    if letter.rejection:
        return f"rejected, {letter.rejection.reason}: {letter.rejection.detail}"
    needs = ", ".join(format_parameters(each) for each in _parameters(letter.keys[:_SHOWN]))
    more = len(letter.keys) - _SHOWN
    return f"{letter.route} {needs}{f' and {more:,} more' if more > 0 else ''}"


def _view(record: Record, letter: DeadLetter) -> dict[str, Any]:
    view: dict[str, Any] = {"source": letter.source, "identity": record.identity, "origin": record.origin}
    if letter.rejection:
        return {**view, "result": "rejected", "reason": letter.rejection.reason, "detail": letter.rejection.detail}
    return {**view, "result": "mapped", "route": letter.route, "parameters": _parameters(letter.keys)}


def _parameters(keys: Sequence[str]) -> list[dict[str, Any]]:
    return [json.loads(key) for key in keys]
