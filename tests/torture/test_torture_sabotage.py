"""The torture notices a Redrive that is broken on purpose. (What it may take is a few seeds: a short run is a short run.)"""

from itertools import count, islice
from pathlib import Path

import pytest
from torture_plan import timetable
from torture_short import run

SECONDS = 14
#: What must be caught, as which kind of finding, and the faults without which it does no harm.
SABOTAGES = {
    "lease_off": ("overlaps", set()),
    "limit_off": ("overlaps", set()),
    "early_acknowledgement": ("lost", {"killed_while_locked"}),
    "coverage_by_what_is_there": ("uncovered", set()),
}


@pytest.mark.parametrize("sabotage", SABOTAGES)
def test_a_broken_redrive_is_caught(sabotage: str, tmp_path: Path):
    kind, faults = SABOTAGES[sabotage]
    seeds = (seed for seed in count(1) if faults <= {step.fault for step in timetable(seed, SECONDS)})
    told = ""
    for seed in islice(seeds, 3):
        code, result, told = run(tmp_path, seed, seconds=SECONDS, sabotage=sabotage)
        if result[kind]:
            assert (code, result["verdict"]) == (1, "broken")
            assert f"torture: {kind}: " in told
            return
    pytest.fail(f"{sabotage} was not noticed: {told}")
