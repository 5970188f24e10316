"""Shortages are recognised anywhere in a chain of errors."""

from __future__ import annotations

import errno
import os
import socket

import pytest

from tasks.dlq.errors import LedgerUnavailable, OutOfReach
from tasks.dlq.shortage import as_out_of_reach, missing_resource, shortage_of


def no_file(*_: object) -> int:
    raise OSError(errno.EMFILE, "Too many open files")


def test_a_shortage_is_told_from_other_errors():
    assert "no more memory" in shortage_of(MemoryError())
    assert "no more files" in shortage_of(OSError(errno.EMFILE, "Too many open files"))
    assert "no more threads" in shortage_of(RuntimeError("can't start new thread"))
    assert "disk is full" in shortage_of(OSError(errno.ENOSPC, "No space left on device"))
    for other in (ConnectionRefusedError(errno.ECONNREFUSED, "refused"), RuntimeError("a fault"), ImportError("x"), None):
        assert shortage_of(other) == ""


def test_a_shortage_is_found_in_a_chain_of_errors_even_a_circular_one():
    outer = ValueError("cannot connect")
    outer.__context__ = inner = OSError("refused")
    inner.__cause__ = outer
    assert shortage_of(outer) == ""
    inner.__cause__ = OSError(errno.EMFILE, "Too many open files")
    assert "no more files" in shortage_of(outer)


@pytest.mark.parametrize("vague", [socket.gaierror(-3, "again"), ImportError("x"), SystemError("null")], ids=repr)
def test_a_vague_error_is_a_shortage_only_while_something_is_missing(vague: Exception, monkeypatch: pytest.MonkeyPatch):
    assert missing_resource() == shortage_of(vague) == ""
    monkeypatch.setattr(os, "open", no_file)
    assert missing_resource() == shortage_of(vague) != ""


def test_a_shortage_becomes_out_of_reach_and_other_errors_stay():
    with pytest.raises(OutOfReach, match="no more memory"), as_out_of_reach():
        raise MemoryError
    with pytest.raises(LedgerUnavailable, match="locked"), as_out_of_reach():
        raise LedgerUnavailable("locked")
    with pytest.raises(ValueError, match="a fault"), as_out_of_reach():
        raise ValueError("a fault")
