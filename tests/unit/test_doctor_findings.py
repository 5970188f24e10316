"""Findings, and the runner of checks that may hang."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from tasks.dlq.errors import LedgerUnavailable
from tasks.doctor.findings import Finding, State, examine, exit_code

if TYPE_CHECKING:
    from collections.abc import Iterator

OK, WARNING, WRONG = State


def test_the_exit_code_tells_out_of_reach_from_wrong_and_lets_warnings_pass():
    fine, told = Finding(name="a", detail=""), Finding(name="b", state=WARNING, detail="", out_of_reach=True)
    wrong = Finding(name="c", state=WRONG, detail="")
    away = Finding(name="d", state=WRONG, detail="", out_of_reach=True)
    assert [exit_code(each) for each in ([], [fine, told], [fine, wrong], [wrong, away])] == [0, 0, 1, 5]


def test_a_check_that_hangs_holds_up_nobody_and_what_it_found_is_shown():
    never = threading.Event()

    def hangs() -> Iterator[Finding]:
        yield Finding(name="first", detail="seen")
        never.wait()

    def fails() -> Iterator[Finding]:
        raise LedgerUnavailable("it is away", hint="look")
        yield

    def breaks() -> Iterator[Finding]:
        raise RuntimeError("a fault")
        yield

    found = examine({"ledger": hangs, "other": fails, "third": breaks}, seconds=0.2)
    never.set()
    assert [(each.name, each.state, each.out_of_reach) for each in found] == [
        ("first", OK, False),
        ("ledger", WRONG, True),
        ("other", WRONG, True),
        ("third", WRONG, False),
    ]
    assert found[1].detail == "no answer within 0.2 s"
    assert (found[2].detail, found[2].hint) == ("it is away", "look")
    assert found[3].detail == "RuntimeError: a fault"
