"""`redrive send`: record failures by hand or from a file, as if a consumer had."""

import json as standard_json
import os
import stat
import uuid
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer

from tasks.cli.errors import Partly
from tasks.cli.files import opened
from tasks.cli.jobs import when
from tasks.cli.output import Json, Output
from tasks.cli.routes import RouteName
from tasks.dlq.errors import InvalidParameter, OutOfReach, Refused
from tasks.dlq.text import format_count, format_parameters

if TYPE_CHECKING:
    from tasks.adapters.jsonl import JsonlSource
    from tasks.cli.session import Session
    from tasks.dlq.calls.route import Route
    from tasks.dlq.ledger.dead_letters import Recorded
    from tasks.dlq.ledger.standings import Standing
    from tasks.dlq.ports import Record

#: Rejected lines that are told one by one.
_TOLD = 20


def send(
    route: RouteName,
    parameters: Annotated[list[str] | None, typer.Argument(metavar="NAME=VALUE", help="The route's parameters.")] = None,
    *,
    file: Annotated[
        str | None, typer.Option("--file", metavar="F.jsonl", help="One JSON object of parameters a line; - is standard input.")
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", metavar="", help="The file's lines are new failures, also those that were sent before.")
    ] = False,
    json: Json = False,
) -> None:
    """Record a failure for a route, as if a consumer had: it is called after the route's delay.

    Each line of a file is recorded once, however often it is sent. Lines that cannot be read are kept as rejected dead letters:
    exit code 3 then.
    """
    from tasks.cli.progress import progress
    from tasks.cli.session import ringing
    from tasks.settings import settings

    out = Output(json=json)
    target = settings().route(route)
    if file is not None:
        if parameters:
            raise Refused("--file and NAME=VALUE cannot be given together", hint="leave one of them out")
        with (
            opened(file, hint="give a file with one JSON object a line") as stream,
            closing(_lines(target, file, stream, again=again)) as source,
        ):
            source.check()
            with ringing(out, create=True) as session, progress(f"sends {file!a}", _size(stream)) as reached:
                report = _record_lines(out, session, source, reached)
        report.end(out)
        return
    if again:
        raise Refused("--again is for --file", hint="each NAME=VALUE is a new failure anyway")
    values = _checked(target, _parsed(parameters or []))
    with ringing(out, create=True) as session:
        _record_one(out, session, target, values)


def _parsed(arguments: Sequence[str]) -> dict[str, str]:
    values: dict[str, str] = {}
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if not (name and equals):
            raise Refused(f"{argument!a} is no NAME=VALUE", hint="for example: redrive send employees employeeId=1234")
        if name in values:
            raise Refused(f"{name!a} is given twice", hint="send one failure at a time, or use --file")
        values[name] = value
    return values


def _checked(route: "Route", values: Mapping[str, Any]) -> dict[str, str]:
    from tasks.dlq.parameters import parse_parameters
    from tasks.settings.keys import suggestion

    try:
        return parse_parameters(route.params, values)
    except InvalidParameter as error:
        unknown = next((name for name in sorted(values) if name not in route.params), "")
        near = suggestion(unknown, route.params)
        raise InvalidParameter(error.message, hint=f"{near} {error.hint}" if near else error.hint) from error


def _record_one(out: Output, session: "Session", route: "Route", values: Mapping[str, str]) -> None:
    from tasks.cli.session import actor
    from tasks.dlq.ports import Record

    origin = {"route": route.name, "sent_by": actor()}
    record = Record(identity=str(uuid.uuid4()), body=standard_json.dumps(values).encode(), origin=origin)
    _take(session, [record])
    _Report().add(out, session, [record])


def _take(session: "Session", records: Sequence["Record"]) -> "Recorded":
    from tasks.names import SENT_SOURCE

    return session.runtime.intake.take(SENT_SOURCE, session.runtime.readers[SENT_SOURCE], records)


def _lines(route: "Route", file: str, stream: IO[bytes], *, again: bool) -> "JsonlSource":
    from tasks.adapters.jsonl import JsonlSource
    from tasks.cli.session import actor
    from tasks.names import SENT_SOURCE

    origin = {"sent_by": actor(), "file": os.path.basename(file)}  # noqa: PTH119 - "-" is no path
    salt = str(uuid.uuid4()) if again else ""
    return JsonlSource(SENT_SOURCE, stream, route=route.name, origin=origin, salt=salt)


def _record_lines(out: Output, session: "Session", source: "JsonlSource", reached: Callable[[int], None]) -> "_Report":
    report = _Report()
    try:
        while records := source.receive(wait=0):
            recorded = _take(session, records)
            source.acknowledge(records)
            report.new += recorded.accepted - recorded.rejected
            report.add(out, session, records)
            reached(source.bytes_read)
    except OutOfReach as error:
        hint = f"{error.hint}; then send it again: {format_count(report.lines, 'line')} of it will be known"
        raise type(error)(error.message, hint=hint) from error
    return report


def _size(stream: IO[bytes]) -> int | None:
    """Return the bytes of a file; None of what has no size, such as a pipe."""
    try:
        status = os.fstat(stream.fileno())
    except OSError:
        return None
    return status.st_size if stat.S_ISREG(status.st_mode) else None


@dataclass
class _Report:
    """What became of the lines: told one by one, and summed up at the end. `new` are those that became needs just now."""

    new: int = 0
    lines: int = 0
    rejected: Counter[str] = field(default_factory=Counter)
    told: list[str] = field(default_factory=list)

    def add(self, out: Output, session: "Session", records: Sequence["Record"]) -> None:
        """Print the job of each record, as the ledger has it; keep the rejected ones for the end."""
        from tasks.dlq.ledger.standings import standings
        from tasks.names import SENT_SOURCE

        with session.runtime.ledger.begin(read_only=True) as tx:
            found, now = standings(tx, SENT_SOURCE, [record.identity for record in records]), tx.now()
        self.lines += len(records)
        for record in records:
            standing = found.get(record.identity)
            if standing is None:
                continue  # known, and pruned at this moment
            line = {"line": record.origin["line"]} if "line" in record.origin else {}
            if standing.reject_reason:
                self._reject(out, line, standing)
            session.touched |= {job["route"] for job in standing.jobs}
            for job in standing.jobs:
                if out.json:
                    out.record({**job, **line})
                else:
                    call = f"{job['route']} {format_parameters(job['parameters'])}"
                    out.line(f"job {job['id']}: {call} ({job['state']}, {when(job, now)})")

    def _reject(self, out: Output, line: Mapping[str, Any], standing: "Standing") -> None:
        self.rejected[str(standing.reject_reason)] += 1
        text = f"line {line.get('line', '')}: {standing.reject_detail}"
        if out.json:
            out.warn(text, letter=standing.letter, reason=standing.reject_reason, **line)
        elif len(self.told) < _TOLD:
            self.told.append(f"{text} (letter {standing.letter})")

    def end(self, out: Output) -> None:
        """Tell what became of all lines. Raises Partly when some are rejected."""
        rejected = self.rejected.total()
        for text in self.told:
            out.note(text)
        if rejected > _TOLD:
            by_reason = ", ".join(f"{count:,} {reason}" for reason, count in self.rejected.most_common())
            out.note(f"these are the first {_TOLD} of {rejected:,} rejected lines: {by_reason}")
        known = self.lines - rejected - self.new
        if known:
            text = f"{format_count(known, 'line')} {'was' if known == 1 else 'were'} recorded before, and not once more"
            out.warn(text, hint="--again makes new failures of all lines", known=known)
        told = f"{format_count(self.new, 'line')} recorded, {known:,} known, {rejected:,} rejected"
        if rejected:
            raise Partly(told, hint="those are kept: see redrive rejects, and mend them with redrive repair")
        out.note(told)
