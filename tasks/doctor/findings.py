"""Findings of checks, and a runner that runs checks in parallel and stops waiting for those that hang."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from tasks.dlq.errors import OutOfReach, RedriveError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping


class State(StrEnum):
    """The result of a check."""

    OK = "ok"
    WARNING = "warning"
    WRONG = "wrong"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """What a check found."""

    #: What was checked.
    name: str
    state: State = State.OK
    detail: str
    #: What to do next.
    hint: str = ""
    #: Whether the ledger or the broker does not answer.
    out_of_reach: bool = False


@dataclass
class _Run:
    """A check in a thread of its own. A thread that hangs ends with the process."""

    name: str
    check: Callable[[], Iterable[Finding]]
    #: What it has found so far.
    found: list[Finding] = field(default_factory=list)

    def start(self) -> None:
        self.thread = threading.Thread(target=self._collect, name=f"doctor-{self.name}", daemon=True)
        self.thread.start()

    def _collect(self) -> None:
        try:
            for finding in self.check():
                self.found.append(finding)
        except RedriveError as error:
            self.found.append(of_error(self.name, error))
        except Exception as error:  # noqa: BLE001 - a check that fails is a finding, and the others continue
            self.found.append(Finding(name=self.name, state=State.WRONG, detail=f"{type(error).__name__}: {error}"))


def examine(checks: Mapping[str, Callable[[], Iterable[Finding]]], *, seconds: float) -> list[Finding]:
    """Run the checks in parallel for at most `seconds`; return what they found, in their order."""
    runs = [_Run(name, check) for name, check in checks.items()]
    for run in runs:
        run.start()
    ends = time.monotonic() + seconds
    findings: list[Finding] = []
    for run in runs:
        run.thread.join(max(ends - time.monotonic(), 0))
        hangs = run.thread.is_alive()
        findings += list(run.found)
        if hangs:
            hint = "check that it runs, and that no firewall blocks it"
            away = run.name in {"ledger", "queues"}
            detail = f"no answer within {seconds:g} s"
            findings.append(Finding(name=run.name, state=State.WRONG, detail=detail, hint=hint, out_of_reach=away))
    return findings


def of_error(name: str, error: RedriveError) -> Finding:
    """Return an error as a finding."""
    away = isinstance(error, OutOfReach)
    return Finding(name=name, state=State.WRONG, detail=error.message, hint=error.hint, out_of_reach=away)


def exit_code(findings: Iterable[Finding]) -> int:
    """Return 0 if nothing is wrong, 5 if the ledger or the broker does not answer, else 1."""
    wrong = [finding for finding in findings if finding.state is State.WRONG]
    if any(finding.out_of_reach for finding in wrong):
        return OutOfReach.exit_code
    return RedriveError.exit_code if wrong else 0
