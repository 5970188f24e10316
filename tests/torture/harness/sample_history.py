"""A history that is right, to be made wrong in one thing at a time."""

from __future__ import annotations

from harness.checker import check
from harness.history import Act, Attempt, Call, History, Job, Letter, Need, Sample, Sent
from harness.settings import Bounds

BOUNDS = Bounds(limits={"employees": 1, "orders": 2}, deadline=2.0, drain=1.0, lease=13.0, lease_margin=5.0)


def call(key: str, fence: int, began: float, ended: float | None, **more: object) -> Call:
    return Call(key=key, fence=fence, began=began, ended=ended, **{"status": 200, **more})  # type: ignore[arg-type]


def attempt(key: str, fence: int, began: float, ended: float | None, **more: object) -> Attempt:
    told = {"covers_seq": fence, "outcome": "success" if ended else None, "status": 200 if ended else None, **more}
    return Attempt(key=key, fence=fence, began=began, ended=ended, **told)  # type: ignore[arg-type]


def act(action: str, *arguments: str, at: float, code: int = 0, **results: str) -> Act:
    """An act that took a second; `results` by jobs, as j1="discarded"."""
    told = {job.removeprefix("j"): result for job, result in results.items()}
    return Act(action=action, arguments=arguments, began=at, ended=at + 1.0, code=code, results=told)


def good_run() -> History:
    """Three messages: two about employee 1, one that is poison."""
    return History(
        sent=[
            Sent(number=1, identity="a"),
            Sent(number=2, identity="b"),
            Sent(number=3, identity="c", poison=True),
        ],
        letters=[
            Letter(identity="a", number=1, recorded=10.0),
            Letter(identity="b", number=2, recorded=20.0),
            Letter(identity="c", number=3, recorded=20.0, rejected=True),
        ],
        needs=[Need(identity="a", key="employees/1", seq=1), Need(identity="b", key="employees/1", seq=2)],
        jobs=[Job(id=1, key="employees/1", state="completed", covered_seq=2, last_seq=2)],
        attempts=[attempt("employees/1", 1, 11.0, 12.0), attempt("employees/1", 2, 21.0, 22.0)],
        calls=[call("employees/1", 1, 11.1, 11.9), call("employees/1", 2, 21.1, 21.9)],
        samples=[Sample(at=12.5, key="employees/1", covered_seq=1), Sample(at=22.5, key="employees/1", covered_seq=2)],
        sums={"accepted": 3, "recovered": 2, "parked": 0, "discarded": 0, "rejected": 1, "pending": 0, "lost": 0},
    )


def kinds(history: History) -> set[str]:
    return {finding.kind for finding in check(history, BOUNDS).findings}
