"""`redrive import`: reads an exported ledger into an empty one, completely or not at all."""

import gzip
from collections.abc import Callable
from typing import IO, TYPE_CHECKING, Annotated, Any, cast

import typer

from tasks.cli.errors import NotBalanced
from tasks.cli.files import get_size, open_input
from tasks.cli.options import Json
from tasks.cli.output import Output
from tasks.dlq.errors import Refused
from tasks.dlq.text import format_count, format_span, format_time
from tasks.ledger_setup import create_ledger

if TYPE_CHECKING:
    from pathlib import Path

    from tasks.dlq.archive.file_format import Header, Reader
    from tasks.dlq.ledger.audit import Audit

_HINT = "give a file that `redrive export` wrote"
_GZIP = b"\x1f\x8b"
#: Rows between two updates of the progress bar.
_ROWS_PER_UPDATE = 1000


def import_(
    file: Annotated[str, typer.Argument(metavar="FILE", help="A file that redrive export wrote; - is standard input.")],
    *,
    dry_run: Annotated[bool, typer.Option("--dry-run", metavar="", help="Check the file; import nothing.")] = False,
    json: Json = False,
) -> None:
    """Read an exported ledger into an empty one, completely or not at all.

    Stop all processes first: if one runs on this machine, the import is refused.

    Exit code 1 if the imported ledger does not balance.
    """
    from tasks.cli.progress import progress
    from tasks.dlq.archive.file_format import Reader

    out = Output(json=json)
    with open_input(file, hint=_HINT) as stream, progress(f"importing {file!a}", size := get_size(stream)) as bar:
        reader = Reader(_unpack(stream))
        _refuse_another_schema(reader.header)

        def report(_rows: int) -> None:
            if size is not None:
                bar(stream.tell())

        sums = None
        if dry_run:
            _read_to_end(reader, report)
        else:
            sums = _import(reader, report)
    _print_summary(out, file, reader, sums)
    if sums and not sums.balanced:
        hint = "it did not balance when it was exported: keep the file, and report it; see redrive audit"
        raise NotBalanced("NOT BALANCED: dead letters are lost or counted twice", hint=hint)


def _read_to_end(reader: "Reader", report: Callable[[int], None]) -> None:
    """Read the file without importing it. Raises Refused."""
    for number, _ in enumerate(reader):
        if not number % _ROWS_PER_UPDATE:
            report(number)


def _import(reader: "Reader", report: Callable[[int], None]) -> "Audit":
    """Import the file; return the audit of the ledger."""
    from tasks.dlq.archive.loader import load
    from tasks.dlq.ledger.audit import audit
    from tasks.settings import settings

    _refuse_beside_processes(settings().state_path)
    with create_ledger(settings()) as ledger, ledger.begin() as tx:
        load(tx, reader, report, configured=settings().routes)
        return audit(tx)


def _refuse_another_schema(header: "Header") -> None:
    from tasks.dlq.ledger import migrations

    if header.revision != migrations.head():
        raise Refused(
            f"the file has the schema {header.revision}, and this Redrive needs {migrations.head()}",
            hint=f"import it with Redrive {header.redrive}, which wrote it; then run redrive db upgrade of this version",
        )


def _refuse_beside_processes(state_dir: "Path") -> None:
    from tasks.adapters.liveness import directory_of, find_processes
    from tasks.dlq.process import Role

    if found := [f"{role} (pid {process.pid})" for role in Role for process in find_processes(state_dir, role)]:
        hint = f"if one does not belong to Redrive, its id was reused: remove its file in {directory_of(state_dir)}"
        raise Refused(f"processes run on this ledger; stop them first: {', '.join(found)}", hint=hint)


def _print_summary(out: Output, file: str, reader: "Reader", sums: "Audit | None") -> None:
    from tasks.dlq.archive.loader import seconds_without_calls
    from tasks.dlq.ledger.audit import STANDINGS
    from tasks.settings import settings

    at, rows = format_time(reader.header.at), sum(reader.rows.values())
    if out.json:
        found: dict[str, Any] = {"file": file, "at": at, "redrive": reader.header.redrive, "rows": reader.rows}
        out.record(found | ({"audit": sums.as_dict()} if sums else {}))
        return
    out.line(f"{file}: {format_count(rows, 'row')}, as of {at}, written by Redrive {reader.header.redrive}")
    if sums is None:
        out.note("the file is complete; nothing was imported")
        return
    parts = " + ".join(f"{getattr(sums, name):,} {name}" for name in STANDINGS)
    out.line(f"{format_count(sums.accepted, 'dead letter')} accepted = {parts}")
    if longest := max(map(seconds_without_calls, settings().routes.values()), default=0.0):
        out.note(f"no call is made for {format_span(longest)}: calls that began after the export may still be open")


def _unpack(stream: IO[bytes]) -> IO[bytes]:
    """Return the stream of lines. Compressed files are recognised by their first bytes."""
    packed = stream.peek(2)[:2] == _GZIP  # type: ignore[attr-defined]  # `open_input` returns a buffered stream
    return cast("IO[bytes]", gzip.GzipFile(fileobj=stream, mode="rb")) if packed else stream
