"""`make test` and `make test-all` with stand-in tools: every tier runs, and the exit code tells whether one failed."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from waiting import TEST_TIMEOUT

ROOT = Path(__file__).parents[2]
TOOL = """#!/bin/sh
echo "$(basename "$0") $*" >> "{log}"
case "$(basename "$0") $*" in {fails}) exit 1;; esac
"""
TEST_TIERS = ("mypy", "tests/unit", "tests/integration", "tests/acceptance")


class Tools:
    """A folder with tools that only note how they were called. A call that matches `fails` (a shell pattern) fails."""

    def __init__(self, folder: Path, fails: str) -> None:
        self._log = folder / "calls"
        self._bin = folder / "bin"
        self._bin.mkdir()
        (folder / "stamp").touch()
        self._variables = (f"BIN={self._bin}", f"STAMP={folder / 'stamp'}")
        for name in ("ruff", "mypy", "lint-imports", "pytest", "python"):
            (self._bin / name).write_text(TOOL.format(log=self._log, fails=fails or "nothing"))
            (self._bin / name).chmod(0o755)

    def make(self, target: str) -> subprocess.CompletedProcess[str]:
        env = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
        command = ["make", target, *self._variables]
        return subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, timeout=TEST_TIMEOUT, check=False)

    def was_called_with(self, words: str) -> bool:
        return any(words in line for line in self._log.read_text().splitlines())


def test_make_test_runs_four_tiers_and_needs_no_jvm(tmp_path: Path):
    tools = Tools(tmp_path, fails="")
    done = tools.make("test")
    assert done.returncode == 0, done.stderr
    assert all(tools.was_called_with(tier) for tier in TEST_TIERS)
    assert not tools.was_called_with("tests/real")


@pytest.mark.parametrize("failing", ["mypy", "pytest*tests/unit", "pytest*tests/integration", "pytest*tests/acceptance"])
def test_a_tier_that_fails_does_not_stop_the_later_ones(failing: str, tmp_path: Path):
    tools = Tools(tmp_path, fails=f"*{failing}*")
    done = tools.make("test")
    assert done.returncode != 0
    assert "FAILED: " in done.stdout
    assert all(tools.was_called_with(tier) for tier in TEST_TIERS)


def test_make_test_all_adds_torture_sabotage_and_real_servers(tmp_path: Path):
    tools = Tools(tmp_path, fails="")
    assert tools.make("test-all").returncode == 0
    for tier in (*TEST_TIERS, "test_torture_minute.py", "test_torture_sabotage.py", "tests/real"):
        assert tools.was_called_with(tier)


def test_make_help_lists_both_commands(tmp_path: Path):
    listed = Tools(tmp_path, fails="").make("help").stdout
    assert "make test " in listed
    assert "make test-all " in listed
