"""`redrive demo` in a process of its own, on embedded servers."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from waiting import until

from tasks.devstack.environment import isolate_environment


@contextmanager
def demo(tmp_path: Path, *options: str, **more: str) -> Iterator[subprocess.Popen[str]]:
    """Run a demo whose temporary files are in `tmp_path`/tmp."""
    (tmp_path / "tmp").mkdir()
    command = [sys.executable, "-m", "tasks.cli", "demo", *options]
    env = isolate_environment(TMPDIR=str(tmp_path / "tmp"), REDRIVE_LEDGER__URL="sqlite:////nobody/asks/for/this.db", **more)
    with subprocess.Popen(
        command, env=env, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def family(process: subprocess.Popen[str]) -> list[psutil.Process]:
    return psutil.Process(process.pid).children(recursive=True)


def wait_for_messages(process: subprocess.Popen[str]) -> None:
    """Wait until everything has started."""
    for line in process.stderr:
        if "/60 messages" in line:
            return
    raise AssertionError("it ended before it began")


def test_a_small_demo_recovers_every_employee(tmp_path: Path):
    with demo(tmp_path, "--messages", "60", "--seed", "3", "--json") as process:
        out, err = process.communicate()
    assert process.returncode == 0, err
    assert len(out.splitlines()) == 1
    result = json.loads(out)

    assert (result["ok"], result["interrupted"]) == (True, False)
    assert result["problems"] == []
    assert result["messages"] == result["handled"] == 60
    assert result["conflicts"] >= 20  # two of three at each of ten barriers
    assert result["dead_letters"] == 2 * result["conflicts"]  # each message was about two employees
    assert result["accepted"] == result["recovered"] == result["dead_letters"]
    assert result["pending"] == result["parked"] == result["rejected"] == result["discarded"] == result["lost"] == 0
    assert 1 <= result["jobs"] <= result["employees"]
    assert result["jobs"] < result["dead_letters"]  # needs with the same key share a job
    assert result["calls"] == sum(result["answers"].values())
    assert result["answers"]["200"] >= result["jobs"]
    assert result["calls"] > result["answers"]["200"]  # the API failed some calls
    assert result["max_calls_in_flight"] == result["max_calls_in_flight_per_key"] == 1
    assert 0 < result["stale_before"] <= result["jobs"]
    assert result["stale_after"] == 0
    assert result["seconds"] > 0
    assert "60/60 messages" in err
    assert list((tmp_path / "tmp").iterdir()) == []


def test_ctrl_c_leaves_no_process_and_no_file(tmp_path: Path):
    with demo(tmp_path, "--messages", "60", "--json", FORCE_COLOR="1") as process:
        wait_for_messages(process)
        children = family(process)
        assert len(children) >= 8
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()
    assert process.returncode == 130
    stopped = json.loads(out)
    assert (stopped["interrupted"], stopped["ok"]) == (True, False)
    assert (stopped["messages"], stopped["seed"], stopped["seconds"] > 0) == (60, 1, True)
    assert {"handled", "conflicts", "dead_letters", "accepted", "jobs", "calls"} <= stopped.keys()
    assert "lost" not in stopped, "there was no audit"
    assert "stopped before the end" in err
    assert "Traceback" not in err
    assert "\x1b" not in err, "no colours without a terminal"
    assert not [child for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]
    assert list((tmp_path / "tmp").iterdir()) == []


def test_a_demo_with_a_killed_consumer_fails(tmp_path: Path):
    with demo(tmp_path, "--messages", "60", "--json") as process:
        wait_for_messages(process)
        children = family(process)
        (consumer,) = [child for child in children if "consumer-2" in child.cmdline()]
        consumer.kill()
        out, err = process.communicate()
    assert process.returncode == 1
    result = json.loads(out)
    assert result["ok"] is False
    assert "consumer-2 ended by SIGKILL during the demo" in result["problems"]
    (log,) = (tmp_path / "tmp").glob("redrive-demo-*/demo.log")
    assert f"the output of the processes is in {log}" in err
    assert "consumer-2 ended by SIGKILL" in log.read_text()
    assert not [child for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]


def test_no_child_outlives_a_demo_that_is_killed(tmp_path: Path):
    with demo(tmp_path, "--messages", "60") as process:
        wait_for_messages(process)
        children = family(process)
        process.kill()
    until(
        lambda: not [child for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE],
        seconds=60,
        what="the end of all children",
    )
