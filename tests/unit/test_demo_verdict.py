import pytest

from tasks.devstack.company.store import Progress
from tasks.devstack.company.story import Story
from tasks.devstack.demo.snapshot import Calls, Snapshot
from tasks.devstack.demo.verdict import Verdict
from tasks.devstack.processes import Ended
from tasks.dlq.ledger.audit import Audit, Sums

PROGRESS = Progress(handled=60, conflicts=20, dead_letters=40, left_stale=15)
SNAPSHOT = {
    "messages": 60,
    "progress": PROGRESS,
    "accepted": 40,
    "jobs": {"completed": 21},
    "calls": Calls(total=23, most=1, most_per_key=1, statuses={"200": 21, "499": 2}),
}


def verdict(audit: dict[str, int] | None = None, stale: list[int] | None = None, **changes: object) -> Verdict:
    sums = Sums(**(audit or {"accepted": 40, "recovered": 40}))
    ended = changes.pop("ended", None)
    return Verdict(
        story=Story(messages=60, seed=3),
        last=Snapshot(**{**SNAPSHOT, **changes}),
        audit=Audit(**vars(sums), sources={"employees_failed": sums}),
        stale=stale or [],
        ended=ended,
        seconds=21.25,
    )


def test_a_good_end_has_no_problem_and_tells_its_proof():
    good = verdict()
    assert good.problems == []
    assert good.as_dict()["ok"] is True
    assert good.as_dict()["seconds"] == 21.2
    text = good.text()
    assert "accepted 40 = recovered 40 + pending 0 + parked 0 + discarded 0 + rejected 0" in text
    assert "HTTP 200 21, no answer 2" in text
    assert (
        "15 of 40 employees were left stale, their newest change in conflict;\n  now every one equals the upstream truth\n"
        in text
    )
    assert "60 messages, 20 conflicts\n  40 dead letters -> 21 jobs -> 23 calls\n" in text
    assert all(len(line) <= 80 for line in text.splitlines())


def test_one_of_a_kind_is_told_as_one():
    progress = Progress(handled=1, conflicts=1, dead_letters=1, left_stale=1)
    text = verdict(messages=1, progress=progress, jobs={"completed": 1}, calls=Calls(total=1, most=1)).text()
    assert "1 message, 1 conflict\n  1 dead letter -> 1 job -> 1 call\n" in text
    assert "1 of 40 employees was left stale" in text


def test_where_nothing_conflicted_no_healing_is_claimed():
    unharmed = verdict({}, messages=1, progress=Progress(handled=1), accepted=0, jobs={}, calls=Calls())
    assert unharmed.problems == []
    text = unharmed.text()
    assert "Verdict: no conflict happened: nothing was there to heal" in text
    assert "redrive demo --messages 60" in text
    assert "healed" not in text
    assert "left stale" not in text


@pytest.mark.parametrize(
    ("bad", "problem"),
    [
        (verdict(stale=list(range(1, 13))), "12 employees unlike the upstream truth: 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, …"),
        (verdict({"accepted": 39, "recovered": 39}), "1 dead letter lost: the consumers sent 40"),
        (verdict({"accepted": 40, "recovered": 39}), "1 dead letter lost: the consumers sent 40"),
        (verdict({"accepted": 40, "recovered": 38, "pending": 2}), "2 dead letters not recovered yet, in 0 jobs"),
        (verdict({"accepted": 40, "recovered": 39, "parked": 1}), "dead letters: 1 parked, 0 discarded, 0 rejected"),
        (verdict({"accepted": 40, "recovered": 39, "rejected": 1}), "dead letters: 0 parked, 0 discarded, 1 rejected"),
        (verdict(calls=Calls(total=9, most=2, most_per_key=1)), "2 calls were in flight at once"),
        (verdict(progress=Progress(handled=59)), "59 of 60 messages consumed in time"),
        (verdict(queued=3), "3 dead letters still in the queue"),
        (verdict(bells=1), "1 wake-up still in SQS"),
        (verdict(ended=Ended(name="beat", code=1)), "beat ended with exit code 1 in the middle"),
    ],
)
def test_what_is_wrong_is_said(bad: Verdict, problem: str):
    assert problem in bad.problems
    assert bad.as_dict()["ok"] is False
    assert f"Verdict: NOT healed\n  {bad.problems[0]}" in bad.text()


@pytest.mark.parametrize(
    "changes",
    [
        {"progress": Progress(handled=59)},
        {"accepted": 39},
        {"queued": 1},
        {"bells": 1},
        {"jobs": {"completed": 20, "retryable": 1}},
        {"jobs": {"completed": 20, "executing": 1}},
    ],
)
def test_a_demo_goes_on_while_anything_is_open(changes: dict[str, object]):
    assert Snapshot(**SNAPSHOT).done
    assert not Snapshot(**{**SNAPSHOT, **changes}).done
