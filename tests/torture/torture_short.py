"""A short run as a process of its own, as `make torture` starts it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

if TYPE_CHECKING:
    from collections.abc import Mapping

TORTURE = Path(__file__).with_name("torture.py")
#: A run comes up, does harm, comes to rest and is checked: each bounded by itself.
_PATIENCE = 400


def command(seed: int, *, seconds: int, sabotage: str = "") -> list[str]:
    """Return a run's command. Few keys and quick failures: calls and failures of one key meet often."""
    numbers = ["--seed", str(seed), "--seconds", str(seconds), "--keys", "8", "--rate", "15"]
    return [sys.executable, str(TORTURE), *numbers, *(["--sabotage", sabotage] if sabotage else [])]


def environment(folder: Path) -> Mapping[str, str]:
    """Return an environment in which a run's folder is made below `folder`."""
    return os.environ | {"TMPDIR": str(folder)}


def run(folder: Path, seed: int, *, seconds: int, sabotage: str = "") -> tuple[int, dict[str, Any], str]:
    """Return a run's exit code, its last line, and what it told a person."""
    asked = command(seed, seconds=seconds, sabotage=sabotage)
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
