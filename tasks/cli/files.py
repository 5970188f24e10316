"""Files that commands are given; "-" is standard input."""

import os
from typing import IO

import typer

from tasks.dlq.errors import Refused


def opened(file: str, *, hint: str) -> IO[bytes]:
    """Return the file, open for reading. Raises Refused, with `hint` on what it should be."""
    try:
        return _standard_input() if file == "-" else open(file, "rb")  # noqa: PTH123 - "-" is no path
    except OSError as error:
        raise Refused(f"cannot read {file!a}: {error.strerror}", hint=hint) from error
    except (RuntimeError, ValueError) as error:  # closed; a NUL in its name
        told = "there is no standard input" if file == "-" else f"cannot read {file!a}: it is no file's name"
        raise Refused(told, hint=hint) from error


def _standard_input() -> IO[bytes]:
    """Return standard input, whose reads wait: a pipe that does not block looks like the end of the file while it is empty."""
    stream = typer.get_binary_stream("stdin")
    os.set_blocking(stream.fileno(), True)
    return stream
