"""Files that commands read; "-" is standard input."""

import os
import stat
from typing import IO

import typer

from tasks.dlq.errors import Refused


def open_input(file: str, *, hint: str) -> IO[bytes]:
    """Open a file for reading. Raises Refused, with `hint` on what the file should be."""
    try:
        return _open_stdin() if file == "-" else open(file, "rb")  # noqa: PTH123 - "-" is no path
    except OSError as error:
        raise Refused(f"cannot read {file!a}: {error.strerror}", hint=hint) from error
    except (RuntimeError, ValueError) as error:  # standard input is closed; the file's name has a NUL
        text = "there is no standard input" if file == "-" else f"cannot read {file!a}: not a valid file name"
        raise Refused(text, hint=hint) from error


def _open_stdin() -> IO[bytes]:
    """Return standard input in blocking mode: an empty pipe that does not block would look like the end of the file."""
    stream = typer.get_binary_stream("stdin")
    os.set_blocking(stream.fileno(), True)
    return stream


def get_size(stream: IO[bytes]) -> int | None:
    """Return the size of a file in bytes; None if it has none, such as a pipe."""
    try:
        status = os.fstat(stream.fileno())
    except OSError:
        return None
    return status.st_size if stat.S_ISREG(status.st_mode) else None
