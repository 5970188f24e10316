from collections import defaultdict

import pytest

from tasks.devstack.company.workload import CONFLICT_PARTITIONS, PARTITIONS, PlannedMessage, Workload


def messages_by_barrier(workload: Workload) -> dict[str | None, list[PlannedMessage]]:
    found = defaultdict(list)
    for message in workload.generate():
        found[message.barrier].append(message)
    return found


@pytest.mark.parametrize("number", [1, 2, 3, 5, 6, 7, 60, 2000])
def test_a_workload_has_the_requested_number_of_messages_each_time(number: int):
    workload = Workload(messages=number, seed=7)
    messages = list(workload.generate())
    assert len(messages) == number
    assert messages == list(workload.generate())
    assert [message.change.revision for message in messages] == list(range(1, number + 1))
    assert all(0 <= message.partition < PARTITIONS for message in messages)
    assert {employee for message in messages for employee in message.change.employees} <= set(workload.employees)


def test_another_seed_gives_another_workload():
    assert list(Workload(messages=60, seed=1).generate()) != list(Workload(messages=60, seed=2).generate())


def test_a_barrier_is_for_three_messages_about_one_manager():
    workload = Workload(messages=2000, seed=7)
    groups = messages_by_barrier(workload)
    del groups[None]
    assert len(groups) == 334
    for group in groups.values():
        assert tuple(message.partition for message in group) == CONFLICT_PARTITIONS
        (manager,) = set.intersection(*(set(message.change.employees) for message in group))
        assert manager in workload.managers
        assert len({employee for message in group for employee in message.change.employees}) == 4


def test_messages_without_a_barrier_are_not_about_managers():
    workload = Workload(messages=2000, seed=7)
    singles = messages_by_barrier(workload)[None]
    assert singles
    assert not {employee for message in singles for employee in message.change.employees} & set(workload.managers)


def test_every_partition_has_the_barriers_in_the_same_order():
    seen = defaultdict(list)
    for message in Workload(messages=600, seed=3).generate():
        if message.barrier:
            seen[message.partition].append(message.barrier)
    assert seen[1] == seen[2] == seen[3]
