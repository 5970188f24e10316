import io
import os
import signal
import subprocess
import sys
import textwrap
import threading

import psutil
import pytest
from rich.console import Console

from tasks.devstack.processes import Command, Ended, Processes


def python(name: str, script: str, **env: str) -> Command:
    return Command(
        name=name, argv=[sys.executable, "-c", textwrap.dedent(script)], env={**os.environ, "PYTHONUNBUFFERED": "1", **env}
    )


class Lines(io.StringIO):
    """Output that tells when a line has come."""

    def __init__(self) -> None:
        super().__init__()
        self.wanted: dict[str, threading.Event] = {}

    def write(self, text: str) -> int:
        written = super().write(text)
        for wanted, event in self.wanted.items():
            if wanted in self.getvalue():
                event.set()
        return written

    def wait_for(self, text: str) -> None:
        event = self.wanted.setdefault(text, threading.Event())
        self.write("")
        assert event.wait(20), f"{text!r} never came in {self.getvalue()!r}"


def test_lines_carry_the_name_of_who_said_them_and_the_dead_one_is_named():
    output = Lines()
    commands = [
        python("api", "import time; print('[bold]ready[/bold]'); time.sleep(60)"),
        python("beat", "import os, sys; print(os.environ['GREETING'], file=sys.stderr); sys.exit(3)", GREETING="hello"),
    ]
    with Processes(commands, console=Console(file=output), grace=5) as processes:
        api = psutil.Process(processes.pid("api"))
        assert processes.wait() == Ended(name="beat", code=3)
        output.wait_for("api  | [bold]ready[/bold]\n")
        output.wait_for("beat | hello\n")
    assert not api.is_running()


def test_a_clean_end_may_say_its_last_words():
    output = Lines()
    script = """
        import signal, sys
        signal.signal(signal.SIGTERM, lambda *_: sys.exit("bye"))
        print("up")
        signal.pause()
    """
    with Processes([python("worker", script)], console=Console(file=output), grace=20) as processes:
        output.wait_for("up")
        assert processes.ended() is None
    assert "worker | bye\n" in output.getvalue()


def test_a_command_that_cannot_start_leaves_none_of_the_others_behind():
    commands = [python("api", "import time; time.sleep(60)"), Command(name="beat", argv=["/no/such/program"], env={})]
    processes = Processes(commands, console=Console(file=io.StringIO()), grace=5)
    with pytest.raises(FileNotFoundError), processes:
        pass
    assert not psutil.pid_exists(processes.pid("api"))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupt_ends_all_and_a_second_one_kills(number: signal.Signals):
    deaf = """
        import os, signal, time
        signal.signal(signal.SIGTERM, lambda *_: print("not yet"))
        print("pid", os.getpid())
        time.sleep(60)
    """
    script = """
        import os, sys
        from rich.console import Console
        from tasks.devstack.processes import Command, Processes, interruptible
        try:
            deaf = Command(name="deaf", argv=[sys.executable, "-uc", sys.argv[1]], env=os.environ)
            with interruptible(), Processes([deaf], console=Console(file=sys.stdout), grace=50) as processes:
                processes.wait()
        except KeyboardInterrupt:
            sys.exit(9)
    """
    command = [sys.executable, "-c", textwrap.dedent(script), textwrap.dedent(deaf)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        child = psutil.Process(int(parent.stdout.readline().split("pid ")[1]))
        parent.send_signal(number)
        assert "deaf | not yet" in parent.stdout.readline()  # it was asked, and may take its time
        parent.send_signal(number)
        assert parent.wait(20) == 9
    assert not child.is_running()
