"""Several commands side by side, each line of theirs with the name of who said it; all end together.

Stands where honcho's manager might: that one starts a shell for each command, gives SIGTERM to whole groups (a Celery worker's
pool dies of it in the middle of a task), and leaves everything running when it is killed itself.
"""

from __future__ import annotations

import contextlib
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
from tasks.devstack.lines import readable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from rich.console import Console

COLOURS = ("cyan", "yellow", "green", "magenta", "blue", "bright_cyan", "bright_yellow", "bright_green")


@dataclass(frozen=True, kw_only=True)
class Command:
    """One process of the set. `env` is its whole environment. The others go on without one that is not `essential`."""

    name: str
    argv: Sequence[str]
    env: Mapping[str, str]
    essential: bool = True


@dataclass(frozen=True, kw_only=True)
class Ended:
    """A process that ended; a negative code is the signal that killed it."""

    name: str
    code: int

    def __str__(self) -> str:
        """Say it in words."""
        if self.code >= 0:
            return f"{self.name} ended with exit code {self.code}"
        return f"{self.name} was ended by {signal.Signals(-self.code).name}"


class Processes:
    """A context manager: entered, all run; left, none does.

    `grace` are the seconds between SIGTERM and SIGKILL; an interrupt during them (a second Ctrl-C) kills at once.
    `heard` is called with each line and the name of who said it.
    """

    def __init__(
        self,
        commands: Sequence[Command],
        *,
        console: Console,
        grace: float = 10.0,
        heard: Callable[[str, str], None] = lambda _name, _line: None,
    ) -> None:
        self._commands = commands
        self._console = console
        self._grace = grace
        self._heard = heard
        self._width = max(len(command.name) for command in commands)
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._readers: list[threading.Thread] = []

    def __enter__(self) -> Self:
        """Start all commands, in their order."""
        try:
            for command, colour in zip(self._commands, cycle(COLOURS), strict=False):
                process = child.spawn(command.argv, env=command.env, output=subprocess.PIPE)
                self._running[command.name] = process
                reader = threading.Thread(target=self._print_lines, args=(process, command.name, colour), daemon=True)
                self._readers.append(reader)
                reader.start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        """End all processes and print their last lines."""
        child.stop(self._running.values(), grace=self._grace)
        for reader in self._readers:
            reader.join(2.0)  # a process that left its group may hold the pipe for longer

    def pid(self, name: str) -> int:
        """Return the process id of the command `name`."""
        return self._running[name].pid

    def ended(self) -> Ended | None:
        """Return the first essential process, in their order, that has ended."""
        for command in self._commands:
            code = self._running[command.name].poll()
            if code is not None and command.essential:
                return Ended(name=command.name, code=code)
        return None

    def wait(self, *, also: Callable[[], Ended | None] = lambda: None) -> Ended:
        """Return when an essential one has ended, or what `also` looks after."""
        while (ended := self.ended() or also()) is None:
            time.sleep(0.2)
        return ended

    def _print_lines(self, process: subprocess.Popen[bytes], name: str, colour: str) -> None:
        assert process.stdout is not None  # noqa: S101 - it was opened with a pipe
        with process.stdout as lines:
            for raw in lines:
                line = raw.decode(errors="replace").rstrip()
                self._heard(name, line)
                if (text := readable(line)) is not None:
                    self._print(name, colour, text)
        self._print(name, colour, Text(str(Ended(name=name, code=process.wait())), style="dim"))

    def _print(self, name: str, colour: str, text: Text) -> None:
        now = datetime.now().astimezone().strftime("%H:%M:%S")
        self._console.print(Text.assemble((f"{now} {name:{self._width}} | ", colour), text), soft_wrap=True, highlight=False)


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Let SIGTERM and a terminal that is closed interrupt as Ctrl-C does, also where that was ignored (a shell's background)."""

    def interrupt(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
