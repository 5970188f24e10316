"""`redrive export`: the whole ledger into a file, as it is at one moment."""

import gzip
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Annotated

import typer

from tasks.cli.output import Json, Output
from tasks.dlq.errors import RedriveError, Refused
from tasks.dlq.text import format_count, format_time

#: Bytes that are gathered before they are compressed or written.
_BUFFER = 1 << 18


def export(
    file: Annotated[str, typer.Argument(metavar="FILE", help="Where to; one that ends in .gz is compressed; - is stdout.")] = "-",
    *,
    force: Annotated[bool, typer.Option("--force", metavar="", help="Replace the file if it is there.")] = False,
    json: Json = False,
) -> None:
    """Write the whole ledger, while Redrive runs: a backup that redrive import reads into SQLite or PostgreSQL.

    The file holds the original bodies. It is made with mode 0600, and is there when it is whole or not at all.
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
        first = writer.header(tx, revision=str(migrations.head()), redrive=version("redrive"))
        whole = writer.count(tx)
        with _sink(file, out, force=force) as write, progress(f"exports {format_count(whole, 'row')}", whole) as reached:
            written = writer.export(tx, first, write, reached)
            digest = written.end()
    if file != "-":
        _tell(out, file, written.rows, at=first.at, digest=digest)


def _tell(out: Output, file: str, rows: Mapping[str, int], *, at: int, digest: str) -> None:
    if out.json:
        out.record({"file": file, "at": format_time(at), "rows": rows, "sha256": digest})
    else:
        letters, jobs = format_count(rows["dead_letters"], "dead letter"), format_count(rows["jobs"], "job")
        out.line(f"{file}: {letters} and {jobs}, {format_count(sum(rows.values()), 'row')} in all, as of {format_time(at)}")


@contextmanager
def _sink(file: str, out: Output, *, force: bool) -> Iterator[Callable[[bytes], object]]:
    """Yield what takes the lines."""
    if file == "-":
        yield lambda line: out.line(line.decode("ascii").removesuffix("\n"))
        return
    try:
        with _made_whole(Path(file), force=force) as path, path.open("wb", buffering=_BUFFER) as raw:
            if file.endswith(".gz"):
                with gzip.GzipFile("", "wb", compresslevel=6, fileobj=raw, mtime=0) as packed:
                    yield packed.write
            else:
                yield raw.write
            raw.flush()
            os.fsync(raw.fileno())
    except OSError as error:
        hint = "nothing was written there; make room, or give another place"
        raise RedriveError(f"cannot write {file!a}: {error.strerror or error}", hint=hint) from error


@contextmanager
def _made_whole(path: Path, *, force: bool) -> Iterator[Path]:
    """Yield a new file beside `path`, which takes its place at the end: on the disk, and never over another one unless told."""
    handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)  # its mode is 0600
    os.close(handle)
    try:
        yield Path(name)
        if force:
            os.replace(name, path)  # noqa: PTH105 - as its sibling
        else:
            os.link(name, path)  # unlike a rename, it refuses to take another's place
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
    """Refuse early what would be refused at the end, and what is no file."""
    if not os.path.lexists(file):  # Path's raises at a NUL
        return
    if not Path(file).is_file():
        raise Refused(f"{file!a} is no regular file", hint="for standard output give - or nothing")
    if not force:
        raise _exists(file)


def _exists(file: str) -> Refused:
    return Refused(f"{file!a} is there already", hint="give another name, or --force to replace it")
