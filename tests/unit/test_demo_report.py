import pytest

from tasks.devstack.child import Ended
from tasks.devstack.company.store import Progress
from tasks.devstack.company.workload import Workload
from tasks.devstack.demo.report import Report
from tasks.devstack.demo.snapshot import NO_CALLS, Snapshot
from tasks.dlq.ledger.audit import Audit, Sums

PROGRESS = Progress(handled=60, conflicts=20, dead_letters=40, left_stale=15)
SNAPSHOT = {
    "messages": 60,
    "progress": PROGRESS,
    "accepted": 40,
    "jobs": {"completed": 21},
    "statistics": {**NO_CALLS, "calls": 23, "max_in_flight": 1, "statuses": {"200": 21, "499": 2}},
}


def make_report(audit: dict[str, int] | None = None, stale: list[int] | None = None, **changes: object) -> Report:
    sums = Sums(**(audit or {"accepted": 40, "recovered": 40}))
    ended = changes.pop("ended", None)
    return Report(
        workload=Workload(messages=60, seed=3),
        last=Snapshot(**{**SNAPSHOT, **changes}),
        audit=Audit(**vars(sums), sources={"employees_failed": sums}),
        stale=stale or [],
        ended=ended,
        seconds=21.25,
    )


def test_a_good_report_shows_its_proof():
    good = make_report()
    assert good.problems == []
    assert good.as_dict()["ok"] is True
    assert good.as_dict()["seconds"] == 21.2
    text = good.format()
    assert "accepted 40 = recovered 40 + pending 0 + parked 0 + discarded 0 + rejected 0" in text
    assert "HTTP 200 21, no answer 2" in text
    assert "Result: recovered in 21 s, nothing lost\n  15 of 40 employees were left stale by conflicts.\n" in text
    assert "60 messages, 20 conflicts\n  40 dead letters -> 21 jobs -> 23 calls\n" in text
    assert all(len(line) <= 80 for line in text.splitlines())


def test_one_thing_is_in_the_singular():
    progress = Progress(handled=1, conflicts=1, dead_letters=1, left_stale=1)
    text = make_report(
        messages=1, progress=progress, jobs={"completed": 1}, statistics={**NO_CALLS, "calls": 1, "max_in_flight": 1}
    ).format()
    assert "1 message, 1 conflict\n  1 dead letter -> 1 job -> 1 call\n" in text
    assert "1 of 40 employees was left stale by conflicts." in text


def test_without_a_conflict_no_recovery_is_claimed():
    report = make_report({}, messages=1, progress=Progress(handled=1), accepted=0, jobs={}, statistics=NO_CALLS)
    assert report.problems == []
    text = report.format()
    assert "Result: no conflict happened, so there was nothing to recover" in text
    assert "redrive demo --messages 60" in text
    assert "recovered in" not in text
    assert "left stale" not in text


@pytest.mark.parametrize(
    ("bad", "problem"),
    [
        (make_report(stale=list(range(1, 13))), "12 employees still stale: 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, …"),
        (make_report({"accepted": 39, "recovered": 39}), "1 dead letter lost: the consumers sent 40"),
        (make_report({"accepted": 40, "recovered": 39}), "1 dead letter lost: the consumers sent 40"),
        (make_report({"accepted": 40, "recovered": 38, "pending": 2}), "2 dead letters not recovered yet, in 0 jobs"),
        (make_report({"accepted": 40, "recovered": 39, "parked": 1}), "dead letters: 1 parked, 0 discarded, 0 rejected"),
        (make_report({"accepted": 40, "recovered": 39, "rejected": 1}), "dead letters: 0 parked, 0 discarded, 1 rejected"),
        (make_report(statistics={**NO_CALLS, "max_in_flight": 2}), "2 calls were open at once"),
        (make_report(progress=Progress(handled=59)), "59 of 60 messages consumed in time"),
        (make_report(queued=3), "3 dead letters still in the queue"),
        (make_report(wakeups=1), "1 wake-up still in SQS"),
        (make_report(ended=Ended(name="beat", code=1)), "beat ended with exit code 1 during the demo"),
    ],
)
def test_every_problem_is_reported(bad: Report, problem: str):
    assert problem in bad.problems
    assert bad.as_dict()["ok"] is False
    assert f"Result: NOT recovered\n  {bad.problems[0]}" in bad.format()
