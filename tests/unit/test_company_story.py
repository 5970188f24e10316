from collections import Counter, defaultdict
from itertools import islice

import pytest

from tasks.devstack.company.faults import BOUNDED, Fault, FaultPlan
from tasks.devstack.company.story import MEETING_PARTITIONS, PARTITIONS, Story


@pytest.mark.parametrize("messages", [1, 2, 3, 5, 6, 7, 60, 2000])
def test_a_story_has_as_many_messages_as_asked_for_and_is_the_same_each_time(messages: int):
    story = Story(messages=messages, seed=7)
    events = list(story.events())
    assert len(events) == messages
    assert events == list(story.events())
    assert [event.change.revision for event in events] == list(range(1, messages + 1))
    assert all(0 <= event.partition < PARTITIONS for event in events)
    assert {number for event in events for number in event.change.employees} <= set(story.employees)


def test_another_seed_tells_another_story():
    assert list(Story(messages=60, seed=1).events()) != list(Story(messages=60, seed=2).events())


def test_a_meeting_is_three_messages_about_one_manager_in_three_partitions_and_no_one_else_is_about_managers():
    story = Story(messages=2000, seed=7)
    meetings = defaultdict(list)
    for event in story.events():
        if event.meeting:
            meetings[event.meeting].append(event)
        else:
            assert not set(event.change.employees) & set(story.managers)
    assert len(meetings) == 334
    for parties in meetings.values():
        assert tuple(event.partition for event in parties) == MEETING_PARTITIONS
        (manager,) = set.intersection(*(set(event.change.employees) for event in parties))
        assert manager in story.managers
        assert len({number for event in parties for number in event.change.employees}) == 4


def test_every_partition_sees_the_meetings_in_the_same_order():
    seen = defaultdict(list)
    for event in Story(messages=600, seed=3).events():
        if event.meeting:
            seen[event.partition].append(event.meeting)
    assert seen[1] == seen[2] == seen[3]


def test_faults_come_apart_each_kind_early_and_within_their_bounds():
    plan = FaultPlan(7)
    faults = [plan.next() for _ in range(1000)]
    assert {fault for fault in faults[:27] if fault} == set(Fault)
    assert Counter(fault for fault in faults if fault) == BOUNDED
    places = [place for place, fault in enumerate(faults) if fault]
    assert min(later - earlier for earlier, later in zip([-1, *places], places, strict=False)) > 3


def test_faults_are_the_same_for_the_same_seed_and_may_be_endless_or_none():
    first, second = FaultPlan(1, budget=None), FaultPlan(1, budget=None)
    faults = [first.next() for _ in range(500)]
    assert faults == [second.next() for _ in range(500)]
    assert len([fault for fault in faults if fault]) > 50
    none = FaultPlan(1, budget={})
    assert list(islice(iter(none.next, "never"), 50)) == [None] * 50
