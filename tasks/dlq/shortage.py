"""Shortages: this process or its machine has run out of file descriptors, memory, threads or disk space.

Almost any statement can fail then, in Redrive or in a library. Nothing was acknowledged, neither the job nor the API is at
fault, and the shortage passes.
"""

from __future__ import annotations

import errno
import os
import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tasks.dlq.errors import OutOfReach

if TYPE_CHECKING:
    from collections.abc import Iterator

HINT = "provide more, or find what uses it: work continues by itself"
_NO_MEMORY = "this process gets no more memory"
_MISSING = {
    errno.EMFILE: "this process may open no more files (ulimit -n)",
    errno.ENFILE: "this machine may open no more files (fs.file-max)",
    errno.ENOMEM: _NO_MEMORY,
    errno.ENOBUFS: "this machine has no memory left for connections",
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk's quota is used up",
}
#: Errors that a shortage can also cause: a resolver's configuration or a module that cannot be opened, a null inside CPython.
_VAGUE = (socket.gaierror, ImportError, SystemError)
#: Bytes that are allocated to test whether there is memory.
_SAMPLE = 1 << 22
#: CPython's message when the system refuses a thread (Modules/_threadmodule.c).
_NO_THREAD = "can't start new thread"


def shortage_of(error: BaseException | None) -> str:
    """Return the shortage that caused `error`, as text; empty if no shortage did."""
    seen: set[int] = set()
    vague = False
    while error is not None and id(error) not in seen:  # a chain of errors can be a circle
        seen.add(id(error))
        if isinstance(error, MemoryError):
            return _NO_MEMORY
        if isinstance(error, RuntimeError) and str(error) == _NO_THREAD:
            return "this process gets no more threads (ulimit -u)"
        if isinstance(error, OSError) and error.errno in _MISSING and not isinstance(error, socket.gaierror):
            return _MISSING[error.errno]
        vague = vague or isinstance(error, _VAGUE)
        error = error.__cause__ or error.__context__
    return missing_resource() if vague else ""


def missing_resource() -> str:
    """Return what this process lacks now, as text; empty if nothing. For errors that do not name their cause."""
    try:
        os.close(os.open(os.devnull, os.O_RDONLY))
        bytearray(_SAMPLE)
    except MemoryError:
        return _NO_MEMORY
    except OSError as error:
        return _MISSING.get(error.errno or 0, "")
    return ""


@contextmanager
def as_out_of_reach() -> Iterator[None]:
    """Raise OutOfReach for an error that a shortage caused, so that callers wait as they do for an unreachable service."""
    try:
        yield
    except OutOfReach:
        raise
    except Exception as error:
        if missing := shortage_of(error):
            raise OutOfReach(missing, hint=HINT) from error
        raise
