import os
import signal
import subprocess
import sys
import textwrap

import psutil
import pytest
from waiting import TEST_TIMEOUT

from tasks.devstack import child
from tasks.devstack.child import Ended

#: Ignores SIGTERM, and has a child in its process group.
DEAF = """
    import signal, subprocess, sys, time
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    grandchild = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    print(grandchild.pid, flush=True)
    time.sleep(60)
"""
PARENT = """
    import os, subprocess, sys
    from tasks.devstack import child
    process = child.spawn([sys.executable, "-c", sys.argv[1]], env=os.environ, output=subprocess.PIPE)
    print(process.pid, process.stdout.readline().decode(), flush=True)
    process.wait()
"""


def spawn_python(script: str) -> subprocess.Popen[bytes]:
    return child.spawn([sys.executable, "-c", textwrap.dedent(script)], env=os.environ, output=subprocess.PIPE)


def test_stop_waits_for_a_clean_end_and_kills_what_the_process_leaves():
    process = spawn_python("""
        import signal, subprocess, sys
        grandchild = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(7))
        print(grandchild.pid, flush=True)
        signal.pause()
    """)
    with process:
        grandchild = psutil.Process(int(process.stdout.readline()))
        child.stop([process], grace=60)
    assert process.returncode == 7
    grandchild.wait(timeout=TEST_TIMEOUT)


def test_stop_kills_a_process_that_ignores_sigterm():
    process = spawn_python(DEAF)
    with process:
        grandchild = psutil.Process(int(process.stdout.readline()))
        child.stop([process], grace=0.3)
    assert process.returncode == -signal.SIGKILL
    grandchild.wait(timeout=TEST_TIMEOUT)


def test_stop_ends_the_guard_too():
    before = psutil.Process().children()
    process = spawn_python("import time; time.sleep(60)")
    with process:
        assert len(psutil.Process().children()) == len(before) + 2
        child.stop([process], grace=60)
    assert psutil.Process().children() == before


@pytest.mark.parametrize("script", [DEAF, "import signal; print(0, flush=True); signal.pause()"])
def test_no_child_outlives_a_parent_that_is_killed(script: str):
    command = [sys.executable, "-c", textwrap.dedent(PARENT), textwrap.dedent(script)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        pids = [int(pid) for pid in parent.stdout.readline().split() if pid != "0"]
        family = [psutil.Process(pid) for pid in pids]
        parent.kill()
    for process in family:
        process.wait(timeout=TEST_TIMEOUT)  # raises if it still runs


def test_an_end_is_described_by_its_exit_code_or_signal():
    assert str(Ended(name="beat", code=3)) == "beat ended with exit code 3"
    assert str(Ended(name="beat", code=-9)) == "beat ended by SIGKILL"
