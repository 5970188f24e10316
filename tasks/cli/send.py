"""`redrive send`: records failures by hand or from a file, as a consumer would."""

import json as standard_json
import os
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer

from tasks.cli.files import get_size, open_input
from tasks.cli.jobs import format_when
from tasks.cli.options import Json, RouteName
from tasks.cli.output import Output
from tasks.cli.report import Report
from tasks.dlq.errors import InvalidParameter, OutOfReach, Refused
from tasks.dlq.text import format_count, format_parameters
from tasks.names import SENT_SOURCE

if TYPE_CHECKING:
    from tasks.adapters.jsonl import JsonlSource
    from tasks.cli.session import Session
    from tasks.dlq.calls.route import Route
    from tasks.dlq.ledger.queries import Standing
    from tasks.dlq.ports import Record

#: Rejected lines that are printed one by one.
_MAX_SHOWN = 20


def send(
    route: RouteName,
    parameters: Annotated[list[str] | None, typer.Argument(metavar="NAME=VALUE", help="The route's parameters.")] = None,
    *,
    file: Annotated[
        str | None, typer.Option("--file", metavar="F.jsonl", help="One JSON object of parameters per line; - is standard input.")
    ] = None,
    again: Annotated[
        bool, typer.Option("--again", metavar="", help="Record lines that were sent before as new failures.")
    ] = False,
    json: Json = False,
) -> None:
    """Record a failure for a route: it is called after the route's delay.

    Each line of a file is recorded once, even if the file is sent again.

    Lines that cannot be read are kept as rejected dead letters. The exit code is then 3.
    """
    from tasks.cli.progress import progress
    from tasks.cli.session import open_session
    from tasks.settings import settings

    out = Output(json=json)
    target = settings().route(route)
    if file is None:
        if again:
            raise Refused("--again is for --file", hint="each NAME=VALUE is a new failure anyway")
        values = _check_parameters(target, _parse_parameters(parameters or []))
        with open_session(out, create=True) as session:
            _send_one(out, session, target, values)
        return
    if parameters:
        raise Refused("--file and NAME=VALUE cannot be given together", hint="leave one of them out")
    with (
        open_input(file, hint="give a file with one JSON object per line") as stream,
        closing(_open_lines(target, file, stream, again=again)) as source,
    ):
        source.check()
        with open_session(out, create=True) as session, progress(f"sending {file!a}", get_size(stream)) as reached:
            report = _send_lines(out, session, source, reached)
    report.finish()


def _parse_parameters(arguments: Sequence[str]) -> dict[str, str]:
    values: dict[str, str] = {}
    for argument in arguments:
        name, equals, value = argument.partition("=")
        if not (name and equals):
            raise Refused(f"{argument!a} is not NAME=VALUE", hint="for example: redrive send employees employeeId=1234")
        if name in values:
            raise Refused(f"{name!a} is given twice", hint="send one failure at a time, or use --file")
        values[name] = value
    return values


def _check_parameters(route: "Route", values: Mapping[str, Any]) -> dict[str, str]:
    from tasks.dlq.parameters import parse_parameters
    from tasks.settings.keys import suggestion

    try:
        return parse_parameters(route.params, values)
    except InvalidParameter as error:
        unknown = next((name for name in sorted(values) if name not in route.params), "")
        near = suggestion(unknown, route.params)
        raise InvalidParameter(error.message, hint=f"{near} {error.hint}" if near else error.hint) from error


def _send_one(out: Output, session: "Session", route: "Route", values: Mapping[str, str]) -> None:
    from tasks.cli.session import get_actor
    from tasks.dlq.ports import Record

    origin = {"route": route.name, "sent_by": get_actor()}
    report = LineReport(out)
    report.send(session, [Record(identity=str(uuid.uuid4()), body=standard_json.dumps(values).encode(), origin=origin)])
    report.print_notes()


def _open_lines(route: "Route", file: str, stream: IO[bytes], *, again: bool) -> "JsonlSource":
    from tasks.adapters.jsonl import JsonlSource
    from tasks.cli.session import get_actor

    origin = {"sent_by": get_actor(), "file": os.path.basename(file)}  # noqa: PTH119 - "-" is no path
    salt = str(uuid.uuid4()) if again else ""
    return JsonlSource(SENT_SOURCE, stream, route=route.name, origin=origin, salt=salt)


def _send_lines(out: Output, session: "Session", source: "JsonlSource", reached: Callable[[int], None]) -> "LineReport":
    report = LineReport(out)
    try:
        while records := source.receive(wait=0):
            report.send(session, records)
            source.acknowledge(records)
            reached(source.bytes_read)
    except OutOfReach as error:
        sent = format_count(report.counts.total(), "line")
        raise type(error)(error.message, hint=f"{error.hint}; then send the file again: {sent} will be known") from error
    return report


class LineReport(Report):
    """What became of each line: its jobs, or why it is rejected."""

    def __init__(self, out: Output) -> None:
        super().__init__(out, {"recorded": "recorded", "known": "known", "rejected": "rejected"})
        self._rejected = 0

    def send(self, session: "Session", records: Sequence["Record"]) -> None:
        """Record failures, and print the job of each, or why it is rejected."""
        from tasks.dlq.ledger.queries import find_paused_routes, find_standings
        from tasks.dlq.services.wakeups import WakeResult

        runtime = session.runtime
        recorded = runtime.intake.take(SENT_SOURCE, runtime.readers[SENT_SOURCE], records)
        with runtime.ledger.begin(read_only=True) as tx:
            found = find_standings(tx, SENT_SOURCE, [record.identity for record in records])
            paused = find_paused_routes(tx, {job["route"] for standing in found.values() for job in standing.jobs})
            now = tx.now()
        self.add_wakeups(WakeResult(paused, session.sender.error))
        rejected = sum(standing.reject_reason is not None for standing in found.values())
        new = recorded.accepted - recorded.rejected
        self.counts.update(recorded=new, rejected=rejected, known=len(records) - new - rejected)
        for record in records:
            line = {"line": record.origin["line"]} if "line" in record.origin else {}
            if standing := found.get(record.identity):  # else it was known, and has just been pruned
                self._print(line, standing, now)

    def _print(self, line: Mapping[str, Any], standing: "Standing", now: int) -> None:
        if standing.reject_reason:
            self._reject(line, standing)
        for job in standing.jobs:
            if self.out.json:
                self.out.record({**job, **line})
            else:
                call = f"{job['route']} {format_parameters(job['parameters'])}"
                self.out.line(f"job {job['id']}: {call} ({job['state']}, {format_when(job, now)})")

    def _reject(self, line: Mapping[str, Any], standing: "Standing") -> None:
        self._rejected += 1
        text = f"line {line.get('line', '')}: {standing.reject_detail}"
        if self.out.json:
            self.out.warn(text, letter=standing.letter, reason=standing.reject_reason, **line)
        elif self._rejected <= _MAX_SHOWN:
            self.out.note(f"{text} (letter {standing.letter})")
        elif self._rejected == _MAX_SHOWN + 1:
            self.out.note("more lines are rejected; redrive rejects lists them")

    def finish(self) -> None:
        """Print the summary. Raises Partly if lines are rejected."""
        if known := self.counts["known"]:
            text = f"already recorded, and not recorded again: {format_count(known, 'line')}"
            self.out.warn(text, hint="--again records all lines as new failures", known=known)
        hint = "rejected lines are kept: see redrive rejects, correct them with redrive repair"
        self.end(done=["recorded", "known"], hint=hint)
        self.out.note(self.summary or "no line")
