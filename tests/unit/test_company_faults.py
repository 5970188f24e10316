from collections import Counter
from itertools import islice

from tasks.devstack.company.faults import BOUNDED, Fault, FaultPlan


def test_each_kind_of_fault_comes_early_and_within_its_budget():
    plan = FaultPlan(7)
    faults = [plan.next() for _ in range(1000)]
    assert {fault for fault in faults[:27] if fault} == set(Fault)
    assert Counter(fault for fault in faults if fault) == BOUNDED
    places = [place for place, fault in enumerate(faults) if fault]
    assert min(later - earlier for earlier, later in zip([-1, *places], places, strict=False)) > 3


def test_the_same_seed_gives_the_same_faults():
    first, second = FaultPlan(1, budget=None), FaultPlan(1, budget=None)
    faults = [first.next() for _ in range(500)]
    assert faults == [second.next() for _ in range(500)]
    assert len([fault for fault in faults if fault]) > 50


def test_an_empty_budget_gives_no_fault():
    plan = FaultPlan(1, budget={})
    assert list(islice(iter(plan.next, "never"), 50)) == [None] * 50
