"""Redrive keeps its promises in a short run, and the run ends all its processes."""

from pathlib import Path

from harness.short_run import kept


def test_redrive_keeps_its_promises_in_a_short_run(folder: Path):
    kept(folder, seed=1, seconds=20, ledger="sqlite")
