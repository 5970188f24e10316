"""`redrive send`: record failures by hand or from a file, as if a consumer had."""

import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import IO, TYPE_CHECKING, Annotated, Any

import typer

from tasks.cli.errors import Partly
from tasks.cli.jobs import when
from tasks.cli.output import Json, Output
from tasks.cli.routes import RouteName
from tasks.cli.text import counted, pairs
from tasks.dlq.errors import InvalidParameter, Refused, UnreadableBody

if TYPE_CHECKING:
    from tasks.cli.session import Session
    from tasks.dlq.route import Route

#: The source of what is sent by hand.
SOURCE = "cli"
#: Lines that are written in one transaction.
_BATCH = 200
_LONGEST_LINE = 1 << 20


@dataclass(frozen=True)
class Line:
    """One line of a file: its parameters, or why it has none."""

    number: int
    parameters: Mapping[str, str]
    problem: Refused | None = None


def send(
    route: RouteName,
    parameters: Annotated[list[str] | None, typer.Argument(metavar="NAME=VALUE", help="The route's parameters.")] = None,
    *,
    file: Annotated[
        str | None, typer.Option("--file", metavar="F.jsonl", help="One JSON object of parameters a line; - is standard input.")
    ] = None,
    json: Json = False,
) -> None:
    """Record a failure for a route, as if a consumer had: it is called after the route's delay.

    Everything is checked first. A file's wrong lines are told on stderr and the others recorded: exit code 3 then.
    """
    from tasks.cli.session import ringing
    from tasks.settings import settings

    out = Output(json=json)
    target = settings().route(route)
    if file is None:
        one = Line(0, _checked(target, _parsed(parameters or [])))
        with ringing(out, create=True) as session:
            _record(out, session, target, [one])
        return
    if parameters:
        raise Refused("--file and NAME=VALUE cannot be given together", hint="leave one of them out")
    with _opened(file) as stream, ringing(out, create=True) as session:
        sent, refused = _record_lines(out, session, target, _read(stream, target))
    told = f"{counted(sent, 'line')} recorded, {refused:,} refused"
    if refused:
        raise (Partly if sent else Refused)(told, hint="mend the lines that are told above, and send those alone")
    out.note(told)


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


def _opened(file: str) -> IO[bytes]:
    try:
        return typer.get_binary_stream("stdin") if file == "-" else open(file, "rb")  # noqa: PTH123 - "-" is no path
    except OSError as error:
        raise Refused(f"cannot read {file!a}: {error.strerror}", hint="give a file with one JSON object a line") from error


def _read(stream: IO[bytes], route: "Route") -> Iterator[Line]:
    """Yield each line that is not blank, checked."""
    from tasks.dlq.body import read_json

    for number, text in _lines(stream):
        if not text.strip():
            continue
        try:
            values = read_json(text, max_bytes=_LONGEST_LINE)
            if not isinstance(values, dict):
                raise InvalidParameter("this is no JSON object", hint='write for example {"employeeId": 1234}')  # noqa: TRY301
            yield Line(number, _checked(route, values))
        except (UnreadableBody, InvalidParameter) as error:
            yield Line(number, {}, error)


def _lines(stream: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    """Yield numbered lines; of one that is too long only as much as shows it."""
    number = 0
    while text := stream.readline(_LONGEST_LINE + 1):
        number += 1
        yield number, text
        while len(text) > _LONGEST_LINE and not text.endswith(b"\n"):
            text = stream.readline(_LONGEST_LINE + 1)
            if not text:
                return


def _record_lines(out: Output, session: "Session", route: "Route", lines: Iterable[Line]) -> tuple[int, int]:
    sent = refused = 0
    rest = iter(lines)
    while batch := list(islice(rest, _BATCH)):
        good = [line for line in batch if line.problem is None]
        for line in batch:
            if line.problem:
                out.warn(f"line {line.number}: {line.problem.message}", hint=line.problem.hint, line=line.number)
        if good:
            _record(out, session, route, good)
        sent, refused = sent + len(good), refused + len(batch) - len(good)
    return sent, refused


def _record(out: Output, session: "Session", route: "Route", lines: Sequence[Line]) -> None:
    """Write the lines into the ledger in one transaction, and print the job of each."""
    from tasks.cli.session import actor
    from tasks.dlq.ledger.queries import jobs_of_keys
    from tasks.dlq.parameters import canonical_key
    from tasks.dlq.ports import Record
    from tasks.dlq.reading import submission

    origin = {"sent_by": actor()}
    runtime = session.runtime
    runtime.intake.take(
        SOURCE,
        runtime.submissions,
        [Record(identity=str(uuid.uuid4()), body=submission(route.name, line.parameters), origin=origin) for line in lines],
    )
    keys = [canonical_key(line.parameters) for line in lines]
    with runtime.ledger.begin(read_only=True) as tx:
        jobs, now = jobs_of_keys(tx, route.name, set(keys)), tx.now()
    for line, key in zip(lines, keys, strict=True):
        job = jobs[key]
        if out.json:
            out.record({**job, "line": line.number} if line.number else job)
        else:
            out.line(f"job {job['id']}: {route.name} {pairs(line.parameters)} ({job['state']}, {when(job, now)})")
