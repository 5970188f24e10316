"""What the doctor makes of disk space and the limit of open files."""

import resource

import pytest

from tasks.doctor.findings import State
from tasks.doctor.machine import judge_disk, judge_open_files

OK, WARNING, WRONG = State


@pytest.mark.parametrize(("free", "state"), [(1 << 40, OK), (1 << 29, WARNING), (1 << 20, WRONG)])
def test_free_disk_space(free: int, state: State):
    found = judge_disk("state_dir", "/var/lib/redrive", free)
    assert found.state is state
    assert bool(found.hint) == (state is not OK)


def test_open_files():
    assert judge_open_files(1024, 200).state is OK
    assert judge_open_files(resource.RLIM_INFINITY, 200).state is OK
    assert judge_open_files(199, 200).state is WRONG
