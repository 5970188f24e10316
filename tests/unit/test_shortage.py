"""What a shortage looks like, wherever in a chain of errors it stands."""

from __future__ import annotations

import errno
import os
import socket

import pytest

from tasks.dlq.errors import LedgerUnavailable, OutOfReach
from tasks.dlq.shortage import lacking, shortage_of, told


def no_file(*_: object) -> int:
    raise OSError(errno.EMFILE, "Too many open files")


def test_what_is_missing_is_told_from_what_others_do():
    assert "no more memory" in shortage_of(MemoryError())
    assert "no more files" in shortage_of(OSError(errno.EMFILE, "Too many open files"))
    assert "no more threads" in shortage_of(RuntimeError("can't start new thread"))
    assert "disk is full" in shortage_of(OSError(errno.ENOSPC, "No space left on device"))
    for other in (ConnectionRefusedError(errno.ECONNREFUSED, "refused"), RuntimeError("a fault"), ImportError("x"), None):
        assert shortage_of(other) == ""


def test_it_is_found_behind_a_librarys_error_and_in_a_chain_that_leads_back():
    outer = ValueError("cannot connect")
    outer.__context__ = inner = OSError("refused")
    inner.__cause__ = outer
    assert shortage_of(outer) == ""
    inner.__cause__ = OSError(errno.EMFILE, "Too many open files")
    assert "no more files" in shortage_of(outer)


@pytest.mark.parametrize("vague", [socket.gaierror(-3, "again"), ImportError("x"), SystemError("null")], ids=repr)
def test_an_error_that_does_not_say_why_is_a_shortage_only_while_something_is_missing(
    vague: Exception, monkeypatch: pytest.MonkeyPatch
):
    assert lacking() == shortage_of(vague) == ""
    monkeypatch.setattr(os, "open", no_file)
    assert lacking() == shortage_of(vague) != ""


def test_a_shortage_is_waited_for_as_any_other_part_that_is_away():
    with pytest.raises(OutOfReach, match="no more memory"), told():
        raise MemoryError
    with pytest.raises(LedgerUnavailable, match="locked"), told():
        raise LedgerUnavailable("locked")
    with pytest.raises(ValueError, match="a fault"), told():
        raise ValueError("a fault")
