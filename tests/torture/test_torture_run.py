"""Redrive keeps its promises in a short run; the run takes all its processes with it, also when it is interrupted."""

import signal
import subprocess
from pathlib import Path

from torture_short import command, environment, processes_in, run


def test_redrive_keeps_its_promises_in_a_short_run(tmp_path: Path):
    code, result, told = run(tmp_path, 1, seconds=25)
    assert (code, result["verdict"]) == (0, "kept"), told
    assert {name: result[name] for name in ("lost", "overlaps", "uncovered")} == dict.fromkeys(
        ("lost", "overlaps", "uncovered"), 0
    )
    settled = sum(result[name] for name in ("recovered", "parked", "discarded", "rejected"))
    assert result["accepted"] == settled > 0, "nothing was put to the test"
    assert result["injected"] == sum(result["faults"].values()) > 50, result["faults"]
    assert processes_in(tmp_path) == []
    assert list(tmp_path.iterdir()) == [], "a run that went well leaves nothing"


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
