"""The base class of embedded servers: a child process on a free loopback port."""

from __future__ import annotations

import os
import shutil
import tempfile
from abc import ABC, abstractmethod
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self

from tasks.devstack import child
from tasks.devstack.readiness import wait_until_ready

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Mapping, Sequence


class EmbeddedServer(ABC):
    """A server that stores nothing. It runs while this context manager is open.

    Its output is in `<directory>/<name>.log`. Without a directory it uses a temporary one.

    Attributes:
        name: the server's name.
        start_timeout: seconds until a server that does not answer counts as failed; generous, for a busy machine.
        port: the port on 127.0.0.1.
        process: the child process.
    """

    name: ClassVar[str]
    start_timeout: ClassVar[float] = 30.0

    def __init__(self, directory: Path | None = None) -> None:
        self._given = directory
        self._stack = ExitStack()
        self.port = 0
        self.process: subprocess.Popen[bytes]

    @property
    def log(self) -> Path:
        """The file with the server's output."""
        return self.directory / f"{self.name}.log"

    @property
    def scratch(self) -> Path:
        """The server's working directory, empty at its start."""
        return self.directory / self.name

    @abstractmethod
    def _command(self) -> Sequence[str]:
        """Return the command that serves on `self.port`."""

    @abstractmethod
    def _environment(self) -> Mapping[str, str]:
        """Return the server's environment variables besides PATH and TMPDIR."""

    @abstractmethod
    def _answers(self) -> bool:
        """Check whether the server is ready. May raise OSError."""

    def __enter__(self) -> Self:
        """Start the server and wait until it answers. Raises OutOfReach."""
        with ExitStack() as stack:
            self.directory = self._given or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=f"redrive-{self.name}-")))
            self.directory = self.directory.resolve()
            shutil.rmtree(self.scratch, ignore_errors=True)  # a killed server has left it
            self.scratch.mkdir(parents=True)
            stack.callback(shutil.rmtree, self.scratch, ignore_errors=True)
            log = stack.enter_context(self.log.open("wb"))
            self.port = child.free_port()
            # The user's own variables are not passed on: they may hold settings of another server of this kind.
            env = {"PATH": os.environ.get("PATH", os.defpath), "TMPDIR": str(self.scratch), **self._environment()}
            self.process = child.spawn(self._command(), env=env, output=log, cwd=self.scratch)
            stack.callback(child.stop, [self.process], grace=0)
            self._wait_until_ready()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def find_ended(self) -> child.Ended | None:
        """Return how the server ended, or None while it runs."""
        code = self.process.poll()
        return None if code is None else child.Ended(name=self.name, code=code)

    def _wait_until_ready(self) -> None:
        wait_until_ready(self._find_missing, self.find_ended, timeout=self.start_timeout, make_hint=self._quote_log)

    def _find_missing(self) -> list[str]:
        try:
            return [] if self._answers() else [self.name]
        except OSError:  # it does not listen yet
            return [self.name]

    def _quote_log(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines()[-3:]
        return "its last output: " + " / ".join(lines) if lines else "it wrote no output"
