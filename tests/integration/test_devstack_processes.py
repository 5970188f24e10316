import io
import os
import signal
import subprocess
import sys
import textwrap
import threading
from typing import Any

import psutil
import pytest
from rich.console import Console
from waiting import TEST_TIMEOUT

from tasks.devstack.child import Ended, free_port
from tasks.devstack.processes import Command, Processes
from tasks.dlq.errors import OutOfReach


def python(name: str, script: str, *arguments: str, **options: Any) -> Command:
    env = {**os.environ, "PYTHONUNBUFFERED": "1", **options.pop("env", {})}
    return Command(name=name, argv=[sys.executable, "-c", textwrap.dedent(script), *arguments], env=env, **options)


class Lines(io.StringIO):
    """Output in which a test can wait for a text."""

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
        assert event.wait(TEST_TIMEOUT), f"{text!r} never came in {self.getvalue()!r}"


def test_each_line_has_the_name_of_its_command():
    output = Lines()
    commands = [
        python("api", "import time; print('[bold]ready[/bold]'); time.sleep(60)"),
        python("beat", "import os, sys; print(os.environ['GREETING'], file=sys.stderr); sys.exit(3)", env={"GREETING": "hello"}),
    ]
    with Processes(commands, console=Console(file=output), grace=60) as processes:
        api = psutil.Process(processes._running["api"].pid)
        assert processes.wait() == Ended(name="beat", code=3)
        output.wait_for("api  | [bold]ready[/bold]\n")
        output.wait_for("beat | hello\n")
    assert not api.is_running()


def test_the_last_lines_of_a_process_are_shown():
    output = Lines()
    script = """
        import signal, sys
        signal.signal(signal.SIGTERM, lambda *_: sys.exit("bye"))
        print("up")
        signal.pause()
    """
    with Processes([python("worker", script)], console=Console(file=output), grace=60) as processes:
        output.wait_for("up")
        assert processes.find_ended() is None
    assert "worker | bye\n" in output.getvalue()


def test_if_a_command_cannot_start_the_others_are_stopped():
    commands = [python("api", "import time; time.sleep(60)"), Command(name="beat", argv=["/no/such/program"], env={})]
    processes = Processes(commands, console=Console(file=io.StringIO()), grace=60)
    with pytest.raises(FileNotFoundError), processes:
        pass
    assert not psutil.pid_exists(processes._running["api"].pid)


def test_commands_are_ready_when_they_write_their_line_or_answer():
    server = """
        import http.server, sys
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                self.send_response(200)
                self.end_headers()
        http.server.HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
    """
    port = free_port()
    api = python("api", server, str(port), ready_check=(port, "/health"))
    worker = python("worker", "import signal; print('w@host ready.'); signal.pause()", ready_pattern=r" ready\.")
    flower = python("flower", "raise SystemExit", ready_check=(free_port(), "/"), essential=False)
    with Processes([api, worker, flower], console=Console(file=io.StringIO()), grace=60) as processes:
        processes.wait_until_ready(hint="")  # Flower has failed, and is not waited for
        assert processes.find_ended() is None


def test_a_command_that_ends_before_it_is_ready_is_an_error():
    commands = [python("worker", "raise SystemExit(4)", ready_pattern="ready")]
    with (
        pytest.raises(OutOfReach, match="worker ended with exit code 4 before it was ready") as raised,
        Processes(commands, console=Console(file=io.StringIO()), grace=60) as processes,
    ):
        processes.wait_until_ready(hint="its output is above")
    assert raised.value.hint == "its output is above"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_second_interrupt_kills(number: signal.Signals):
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
        assert "deaf | not yet" in parent.stdout.readline()  # it has got SIGTERM, and has time to end
        parent.send_signal(number)
        assert parent.wait(TEST_TIMEOUT) == 9
    assert not child.is_running()
