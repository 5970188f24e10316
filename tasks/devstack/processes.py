"""Runs several commands side by side, and shows each of their lines with the name of the command.

honcho does not fit: it starts each command in a shell, sends SIGTERM to whole process groups (which kills the pool of a Celery
worker in the middle of a task), and leaves every process running when it is killed itself.
"""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
import threading
import time
from dataclasses import dataclass
from datetime import datetime
from itertools import cycle
from typing import TYPE_CHECKING, NoReturn, Self

from rich.text import Text

from tasks.devstack import child
from tasks.devstack.child import Ended
from tasks.devstack.log_lines import format_line
from tasks.devstack.readiness import answers_ok, wait_until_ready

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from rich.console import Console

#: Seconds until commands that are not ready count as failed; generous, for a busy machine.
START_TIMEOUT = 90.0
_COLOURS = ("cyan", "yellow", "green", "magenta", "blue", "bright_cyan", "bright_yellow", "bright_green")


@dataclass(frozen=True, kw_only=True)
class Command:
    """A command to run.

    Attributes:
        name: the name before each of its lines.
        argv: the program and its arguments.
        env: its whole environment.
        ready_pattern: regular expression for a part of the line that it writes when it is ready.
        ready_check: port and path of an HTTP server that answers 200 when it is ready.
        essential: whether everything stops when this command ends.
    """

    name: str
    argv: Sequence[str]
    env: Mapping[str, str]
    ready_pattern: str | None = None
    ready_check: tuple[int, str] | None = None
    essential: bool = True


class Processes:
    """The processes of some commands. They run while this context manager is open.

    `grace` is the number of seconds between SIGTERM and SIGKILL. A second Ctrl-C during this time kills at once.
    """

    def __init__(self, commands: Sequence[Command], *, console: Console, grace: float = 10.0) -> None:
        self._commands = commands
        self._console = console
        self._grace = grace
        self._width = max(len(command.name) for command in commands)
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._readers: list[threading.Thread] = []
        self._not_ready = {command.name: command for command in commands if command.ready_pattern or command.ready_check}

    def __enter__(self) -> Self:
        """Start all commands in their order."""
        try:
            for command, colour in zip(self._commands, cycle(_COLOURS), strict=False):
                process = child.spawn(command.argv, env=command.env, output=subprocess.PIPE)
                self._running[command.name] = process
                reader = threading.Thread(target=self._show_lines, args=(process, command, colour), daemon=True)
                self._readers.append(reader)
                reader.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """Stop all processes and show their last lines."""
        child.stop(self._running.values(), grace=self._grace)
        for reader in self._readers:
            reader.join(2.0)  # a process that has left its group may keep the pipe open

    def find_ended(self) -> Ended | None:
        """Return the first essential process that has ended, in the order of the commands."""
        for command in self._commands:
            code = self._running[command.name].poll()
            if code is not None and command.essential:
                return Ended(name=command.name, code=code)
        return None

    def wait_until_ready(self, *, hint: str, report: Callable[[Sequence[str]], None] = lambda _missing: None) -> None:
        """Return when every command is ready. Until then pass the names of the others to `report`. Raises OutOfReach."""
        wait_until_ready(self._find_missing, self.find_ended, timeout=START_TIMEOUT, make_hint=lambda: hint, report=report)

    def wait(self, *, find_other: Callable[[], Ended | None] = lambda: None) -> Ended:
        """Return the first essential process that ends, or the process that `find_other` returns."""
        while (ended := self.find_ended() or find_other()) is None:
            time.sleep(0.2)
        return ended

    def _find_missing(self) -> list[str]:
        for command in list(self._not_ready.values()):
            failed = not command.essential and self._running[command.name].poll() is not None
            if failed or (command.ready_check and answers_ok(*command.ready_check)):
                del self._not_ready[command.name]
        return sorted(self._not_ready)

    def _show_lines(self, process: subprocess.Popen[bytes], command: Command, colour: str) -> None:
        assert process.stdout is not None  # noqa: S101 - spawned with a pipe
        with process.stdout as lines:
            for raw in lines:
                line = raw.decode(errors="replace").rstrip()
                if command.ready_pattern and re.search(command.ready_pattern, line):
                    self._not_ready.pop(command.name, None)
                if (text := format_line(line)) is not None:
                    self._show(command.name, colour, text)
        self._show(command.name, colour, Text(str(Ended(name=command.name, code=process.wait())), style="dim"))

    def _show(self, name: str, colour: str, text: Text) -> None:
        now = datetime.now().astimezone().strftime("%H:%M:%S")
        self._console.print(Text.assemble((f"{now} {name:{self._width}} | ", colour), text), soft_wrap=True, highlight=False)


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Raise KeyboardInterrupt for SIGINT, SIGTERM and SIGHUP, even if the shell has set one of them to be ignored."""

    def interrupt(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
