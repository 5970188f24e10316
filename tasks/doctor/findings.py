"""What a check finds, and how checks that may hang are run side by side in a bounded time."""

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
    """How it is with one thing."""

    OK = "ok"
    WARNING = "warning"
    WRONG = "wrong"


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One line. `hint` tells what to do next; `out_of_reach` that it is the ledger or the broker that does not answer."""

    name: str
    state: State = State.OK
    detail: str
    hint: str = ""
    out_of_reach: bool = False


@dataclass
class _Run:
    """A check in a thread of its own: what it has found so far. One that hangs is left to the end of the process."""

    name: str
    check: Callable[[], Iterable[Finding]]
    found: list[Finding] = field(default_factory=list)

    def start(self) -> None:
        self.thread = threading.Thread(target=self._work, name=f"doctor-{self.name}", daemon=True)
        self.thread.start()

    def _work(self) -> None:
        try:
            for finding in self.check():
                self.found.append(finding)
        except RedriveError as error:
            self.found.append(of_error(self.name, error))
        except Exception as error:  # noqa: BLE001 - a check that fails is a finding, and the others go on
            self.found.append(Finding(name=self.name, state=State.WRONG, detail=f"{type(error).__name__}: {error}"))


def examine(checks: Mapping[str, Callable[[], Iterable[Finding]]], *, seconds: float) -> list[Finding]:
    """Run the checks side by side for at most `seconds`; return what they found, in their order."""
    runs = [_Run(name, check) for name, check in checks.items()]
    for each in runs:
        each.start()
    ends = time.monotonic() + seconds
    findings: list[Finding] = []
    for each in runs:
        each.thread.join(max(ends - time.monotonic(), 0))
        hangs = each.thread.is_alive()
        findings += list(each.found)
        if hangs:
            findings.append(
                Finding(
                    name=each.name,
                    state=State.WRONG,
                    detail=f"no answer within {seconds:g} s",
                    hint="see whether it runs, and whether a firewall is in between",
                    out_of_reach=each.name in {"ledger", "queues"},
                )
            )
    return findings


def of_error(name: str, error: RedriveError, *, state: State = State.WRONG) -> Finding:
    """Return an error of Redrive's as a finding."""
    away = isinstance(error, OutOfReach)
    return Finding(name=name, state=state, detail=error.message, hint=error.hint, out_of_reach=away and state is State.WRONG)


def exit_code(findings: Iterable[Finding]) -> int:
    """Return 0 when nothing is wrong, 5 when the ledger or the broker is out of reach, 1 for all else."""
    wrong = [each for each in findings if each.state is State.WRONG]
    if any(each.out_of_reach for each in wrong):
        return OutOfReach.exit_code
    return RedriveError.exit_code if wrong else 0
