"""`redrive export`: writes the whole ledger into a file, as it is at one moment."""

import gzip
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from tasks.cli.options import Json
from tasks.cli.output import Output
from tasks.dlq.errors import RedriveError, Refused
from tasks.dlq.text import format_count, format_time

#: Bytes that are collected before they are compressed or written.
_BUFFER = 1 << 18


def export(
    file: Annotated[str, typer.Argument(metavar="FILE", help="The file; .gz at the end compresses it; - is stdout.")] = "-",
    *,
    force: Annotated[bool, typer.Option("--force", metavar="", help="Replace the file if it exists.")] = False,
    json: Json = False,
) -> None:
    """Write the whole ledger into a file, also while Redrive runs. redrive import reads it.

    The file holds the original bodies. Its mode is 0600. It appears when it is complete.
    """
    from tasks.cli.progress import progress
    from tasks.dlq.archive import writer
    from tasks.dlq.ledger import migrations
    from tasks.ledger_setup import open_ledger
    from tasks.settings import settings

    out = Output(json=json)
    if file != "-":
        _refuse_existing(file, force=force)
    with open_ledger(settings()) as ledger, ledger.begin(read_only=True) as tx:
        header = writer.read_header(tx, revision=str(migrations.head()), redrive=version("redrive"))
        whole = writer.count_rows(tx)
        with _sink(file, out, force=force) as write, progress(f"exporting {format_count(whole, 'row')}", whole) as report:
            written = writer.write_rows(tx, header, write, report)
            digest = written.end()
    if file != "-":
        _print_summary(out, file, written.rows, at=header.at, digest=digest)


def _print_summary(out: Output, file: str, rows: Mapping[str, int], *, at: int, digest: str) -> None:
    if out.json:
        out.record({"file": file, "at": format_time(at), "rows": rows, "sha256": digest})
    else:
        letters, jobs = format_count(rows["dead_letters"], "dead letter"), format_count(rows["jobs"], "job")
        out.line(f"{file}: {letters} and {jobs}, {format_count(sum(rows.values()), 'row')} in all, as of {format_time(at)}")


@contextmanager
def _sink(file: str, out: Output, *, force: bool) -> Iterator[Callable[[bytes], object]]:
    """Yield the function that writes a line."""
    if file == "-":
        yield lambda line: out.line(line.decode("ascii").removesuffix("\n"))
        return
    try:
        with _written_atomically(Path(file), force=force) as path, path.open("wb", buffering=_BUFFER) as raw:
            if file.endswith(".gz"):
                with gzip.GzipFile("", "wb", compresslevel=6, fileobj=raw, mtime=0) as packed:
                    yield packed.write
            else:
                yield raw.write
            raw.flush()
            os.fsync(raw.fileno())
    except OSError as error:
        hint = "the file was not created; free space on the disk, or give another place"
        raise RedriveError(f"cannot write {file!a}: {error.strerror or error}", hint=hint) from error


@contextmanager
def _written_atomically(path: Path, *, force: bool) -> Iterator[Path]:
    """Yield a temporary file beside `path`; at the end, move it there and sync it. Without `force`, replace no other file."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # its mode is 0600
    os.close(handle)
    try:
        yield Path(name)
        if force:
            os.replace(name, path)  # noqa: PTH105 - as its sibling
        else:
            os.link(name, path)  # unlike a rename, it does not replace a file
    except FileExistsError:
        raise _exists(str(path)) from None
    finally:
        Path(name).unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _refuse_existing(file: str, *, force: bool) -> None:
    """Refuse before the export what would be refused at its end."""
    if not os.path.lexists(file):  # Path.exists raises if there is a NUL
        return
    if not Path(file).is_file():
        raise Refused(f"{file!a} is not a regular file", hint="for standard output give - or nothing")
    if not force:
        raise _exists(file)


def _exists(file: str) -> Refused:
    return Refused(f"{file!a} exists already", hint="give another name, or --force to replace it")
