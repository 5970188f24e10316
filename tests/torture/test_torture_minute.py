"""Redrive keeps its promises in a minute of faults, on both ledgers; an interrupted run ends all its processes."""

import signal
import subprocess
from pathlib import Path

import pytest
from harness.short_run import command, environment, kept, processes_in, skip_without


@pytest.mark.parametrize(("ledger", "seed"), [("sqlite", 2), ("postgresql", 2)])
def test_redrive_keeps_its_promises_for_a_minute(ledger: str, seed: int, folder: Path):
    skip_without(ledger)
    kept(folder, seed=seed, seconds=60, ledger=ledger)


def test_an_interrupted_run_leaves_no_process_behind(tmp_path: Path):
    asked = command(1, seconds=60)
    with subprocess.Popen(asked, env=environment(tmp_path), stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stderr
        assert process.stdout
        for line in process.stderr:
            if "faults for" in line:
                break
        assert processes_in(tmp_path), "the run should be at work"
        process.send_signal(signal.SIGINT)
        told = process.stderr.read()
        assert process.wait() == 1
        assert process.stdout.read() == "", "there is no verdict on half a run"
    assert "interrupted" in told
    assert "kept in" in told
    assert processes_in(tmp_path) == []
