"""Redrive keeps its promises in a short run; the run takes all its processes with it, also when it is interrupted."""

import signal
import subprocess
from pathlib import Path

from harness.short_run import command, environment, kept, processes_in


def test_redrive_keeps_its_promises_in_a_short_run(folder: Path):
    kept(folder, seed=1, seconds=20, ledger="sqlite")


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
