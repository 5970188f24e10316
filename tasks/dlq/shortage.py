"""Shortage: what this process or its machine has run out of, told apart from what the world outside does.

Without a file descriptor, memory, a thread or room on the disk nearly anything may fail, in our code or in a library's.
Whatever it was: nothing was acknowledged, it is no fault of a job or of an API, and it passes.
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

HINT = "give it more, or find what took it: work goes on by itself"
_NO_DESCRIPTOR = "this process may open no more files (ulimit -n)"
_NO_MEMORY = "this process gets no more memory"
_MISSING = {
    errno.EMFILE: _NO_DESCRIPTOR,
    errno.ENFILE: "this machine may open no more files (fs.file-max)",
    errno.ENOMEM: _NO_MEMORY,
    errno.ENOBUFS: "this machine has no memory left for connections",
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the disk's quota is used up",
}
#: What a shortage may look like, too: a name server's configuration or a module that cannot be read, a null in CPython.
_VAGUE = (socket.gaierror, ImportError, SystemError)
#: Bytes that are asked for to see whether there is memory.
_SOME = 1 << 22
#: What CPython says when the system gives it no thread (Modules/_threadmodule.c).
_NO_THREAD = "can't start new thread"


def shortage_of(error: BaseException | None) -> str:
    """Return in words what was missing when `error` was raised; empty when it tells of nothing that was."""
    seen: set[int] = set()
    vague = False
    while error is not None and id(error) not in seen:  # a chain may lead back to where it began
        seen.add(id(error))
        if isinstance(error, MemoryError):
            return _NO_MEMORY
        if isinstance(error, RuntimeError) and str(error) == _NO_THREAD:
            return "this process gets no more threads (ulimit -u)"
        if isinstance(error, OSError) and error.errno in _MISSING and not isinstance(error, socket.gaierror):
            return _MISSING[error.errno]
        vague = vague or isinstance(error, _VAGUE)
        error = error.__cause__ or error.__context__
    return lacking() if vague else ""


def lacking() -> str:
    """Return in words what this process lacks now; empty when it has all. For errors of those who do not say why."""
    try:
        os.close(os.open(os.devnull, os.O_RDONLY))
        bytearray(_SOME)
    except MemoryError:
        return _NO_MEMORY
    except OSError as error:
        return _MISSING.get(error.errno or 0, "")
    return ""


@contextmanager
def told() -> Iterator[None]:
    """Turn whatever a shortage raises into OutOfReach, so that it is waited for as for any other part that is away."""
    try:
        yield
    except OutOfReach:
        raise
    except Exception as error:
        if missing := shortage_of(error):
            raise OutOfReach(missing, hint=HINT) from error
        raise
