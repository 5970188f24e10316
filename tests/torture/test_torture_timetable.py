"""A seed is a timetable: the same one each time, with each kind of fault, and nothing that cannot be done."""

from collections import Counter
from itertools import pairwise

import pytest
from harness.timetable import LEDGERS, PROCESSES, Dice, timetable, weights


@pytest.mark.parametrize("ledger", LEDGERS)
def test_the_same_seed_gives_the_same_faults(ledger: str):
    assert timetable(7, 300, ledger) == timetable(7, 300, ledger)
    assert timetable(7, 300, ledger) == [step for step in timetable(7, 300, ledger) if step.at < 300]


def test_a_slow_machine_gets_fewer_faults_from_the_same_deck():
    usual, slow = (timetable(7, 60, pace=pace) for pace in (1, 4))
    assert len(slow) < len(usual)
    assert slow[0].action == usual[0].action


def test_only_what_is_asked_for_is_drawn():
    assert {step.fault for step in timetable(7, 300, only=["kill_beat"])} == {"kill_beat", ""}
    assert timetable(7, 300, only=[""]) == []


def test_the_same_dice_give_the_same_throws():
    assert [Dice(7, "api", {"cut": 30}).throw() for _ in range(3)] == [Dice(7, "api", {"cut": 30}).throw() for _ in range(3)]


def test_another_seed_gives_others():
    assert timetable(7, 300) != timetable(8, 300)


#: Acts are counted when they were done, whatever their command is called.
_ACTS = {"op_pause": {"pause", "resume"}, "op_replay": {"replay"}, "op_discard": {"discard"}}


@pytest.mark.parametrize("ledger", LEDGERS)
@pytest.mark.parametrize("seed", range(20))
def test_a_long_run_has_every_fault(seed: int, ledger: str):
    steps = timetable(seed, 455, ledger)
    assert {step.fault for step in steps} - {""} == weights(ledger).keys() - _ACTS.keys()
    assert {step.action for step in steps} >= set().union(*_ACTS.values())


@pytest.mark.parametrize("seed", range(20))
def test_a_process_that_is_killed_is_started_before_anything_else_is_done_to_it(seed: int):
    steps = [step for step in timetable(seed, 480) if step.target in PROCESSES]
    for name in {step.target for step in steps}:
        own = [step for step in steps if step.target == name]
        for one, following in pairwise(own):
            assert one.action != "kill" or following.action == "start", (one, following)
            assert not one.action.startswith("stop") or following.action == "go", (one, following)
            assert one.action != "deploy" or following.action == "retire", (one, following)


#: What is done to a server, and what undoes it.
_UNDONE = {
    "broker_kill": "broker_start",
    "kafka_stall": "kafka_go",
    "ledger_stop": "ledger_start",
    "ledger_kill": "ledger_start",
    "fill": "free",
}


@pytest.mark.parametrize("ledger", LEDGERS)
@pytest.mark.parametrize("seed", range(20))
def test_a_server_is_there_again_before_anything_else_is_done_to_it(seed: int, ledger: str):
    for acts in ({"broker_kill"}, {"kafka_stall"}, {"ledger_stop", "ledger_kill", "fill"}):
        own = [step for step in timetable(seed, 480, ledger) if step.action in acts | {_UNDONE[act] for act in acts}]
        for one, following in pairwise(own):
            assert one.action not in _UNDONE or following.action == _UNDONE[one.action], (one, following)


@pytest.mark.parametrize("seed", range(20))
def test_all_steps_lie_in_the_run(seed: int):
    assert all(0 <= step.at < 25 for step in timetable(seed, 25))


def test_dice_throw_each_fault_as_often_as_they_say():
    dice = Dice(1, "api", {"cut": 10, "slow": 30})
    found = Counter(dice.throw().fault for _ in range(5000))
    assert found["cut"] == pytest.approx(500, rel=0.2)
    assert found["slow"] == pytest.approx(1500, rel=0.1)
    assert found[""] == pytest.approx(3000, rel=0.1)
