import pytest

from tasks.devstack.company.store import Progress
from tasks.devstack.demo.snapshot import Snapshot

DONE = {
    "messages": 60,
    "progress": Progress(handled=60, conflicts=20, dead_letters=40),
    "accepted": 40,
    "jobs": {"completed": 21},
}


def test_a_demo_is_done_when_nothing_is_left():
    assert Snapshot(**DONE).done


@pytest.mark.parametrize(
    "changes",
    [
        {"progress": Progress(handled=59)},
        {"accepted": 39},
        {"queued": 1},
        {"wakeups": 1},
        {"jobs": {"completed": 20, "retryable": 1}},
        {"jobs": {"completed": 20, "executing": 1}},
    ],
)
def test_a_demo_is_not_done_while_something_is_left(changes: dict[str, object]):
    assert not Snapshot(**{**DONE, **changes}).done
