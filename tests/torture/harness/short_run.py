"""A short run as a process of its own, as `make torture` starts it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest
from postgresql_server import REQUIRED

from harness.postgresql import why_not

if TYPE_CHECKING:
    from collections.abc import Mapping

TORTURE = Path(__file__).parents[1] / "torture.py"
#: A run ends by itself within ten minutes, on whatever machine.
_PATIENCE = 640


def command(seed: int, *, seconds: int, **options: str) -> list[str]:
    """Return a run's command. Few keys and quick failures: calls and failures of one key meet often."""
    numbers = ["--seed", str(seed), "--seconds", str(seconds), "--keys", "8", "--rate", "15"]
    return [sys.executable, str(TORTURE), *numbers, *(f"--{name}={value}" for name, value in options.items())]


def skip_without(ledger: str) -> None:
    """Skip, or fail where nothing may be missing, when there is no such ledger here."""
    if ledger == "postgresql" and (why := why_not()):
        if os.environ.get(REQUIRED) == "1":
            pytest.fail(f"PostgreSQL: {why} ({REQUIRED} is 1)", pytrace=False)
        pytest.skip(f"PostgreSQL: {why}")


def environment(folder: Path) -> Mapping[str, str]:
    """Return an environment in which a run's folder is made below `folder`."""
    return os.environ | {"TMPDIR": str(folder)}


def run(folder: Path, seed: int, *, seconds: int, **options: str) -> tuple[int, dict[str, Any], str]:
    """Return a run's exit code, its last line, and what it told a person."""
    asked = command(seed, seconds=seconds, **options)
    done = subprocess.run(asked, env=environment(folder), capture_output=True, text=True, timeout=_PATIENCE, check=False)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout.splitlines()[-1]), done.stderr


def processes_in(folder: Path) -> list[str]:
    """Return the command lines of all processes that work below the folder."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.cwd().startswith(str(folder)):
                found.append(" ".join(process.cmdline()))
        except psutil.Error:
            continue  # it has just ended, or is somebody else's
    return found


def kept(folder: Path, *, seed: int, seconds: int, ledger: str) -> None:
    """Assert that Redrive keeps its promises in a short run, and that the run leaves nothing behind."""
    code, result, told = run(folder, seed, seconds=seconds, ledger=ledger)
    assert (code, result["verdict"]) == (0, "kept"), told
    assert {name: result[name] for name in ("lost", "overlaps", "uncovered")} == {"lost": 0, "overlaps": 0, "uncovered": 0}
    settled = sum(result[name] for name in ("recovered", "parked", "discarded", "rejected"))
    assert result["accepted"] == settled > 0, "nothing was put to the test"
    assert result["injected"] == sum(result["faults"].values()) > 50, result["faults"]
    assert processes_in(folder) == []
    assert list(folder.iterdir()) == [], "a run that went well leaves nothing"
