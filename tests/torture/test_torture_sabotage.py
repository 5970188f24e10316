"""The torture notices a Redrive that is broken on purpose. (What it may take is a few seeds: a short run is a short run.)"""

from pathlib import Path
from typing import NamedTuple

import pytest
from harness.short_run import run, skip_without

CALLS = 80


class Sabotage(NamedTuple):
    """What must be caught, as which kind of finding, and with which faults: as few as it takes, for they cost calls."""

    name: str
    kind: str
    faults: str = ""
    ledger: str = "sqlite"
    seconds: int = 10


SABOTAGES = [
    Sabotage("lease_off", "overlaps"),
    Sabotage("limit_off", "overlaps"),
    Sabotage("early_acknowledgement", "lost", "killed_while_locked", seconds=25),
    Sabotage("coverage_by_what_is_there", "uncovered"),
    Sabotage("coverage_by_id", "uncovered", ledger="postgresql"),  # on SQLite ids commit in their order
]


@pytest.mark.parametrize("sabotage", SABOTAGES, ids=lambda sabotage: sabotage.name)
def test_a_broken_redrive_is_caught(sabotage: Sabotage, folder: Path):
    skip_without(sabotage.ledger)
    told = ""
    for seed in (1, 2, 3):
        options = {"sabotage": sabotage.name, "ledger": sabotage.ledger, "faults": sabotage.faults, "calls": str(CALLS)}
        code, result, told = run(folder, seed, seconds=sabotage.seconds, **options)
        if result[sabotage.kind]:
            assert (code, result["verdict"]) == (1, "broken")
            assert f"torture: {sabotage.kind}: " in told
            return
    pytest.fail(f"{sabotage.name} was not noticed: {told}")
