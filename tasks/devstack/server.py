"""What the embedded servers have in common: a child process on one free loopback port, ready when entered, gone when left."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from abc import ABC, abstractmethod
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self

from tasks.devstack import child
from tasks.dlq.errors import OutOfReach

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Mapping, Sequence

#: Seconds that a server gets to answer on a busy machine.
PATIENCE = 30.0


class EmbeddedServer(ABC):
    """A server for one machine and one user. It keeps nothing: leaving kills it.

    What it has to say is in `<directory>/<name>.log`; without a directory it makes a temporary one and removes it.
    """

    name: ClassVar[str]
    patience: ClassVar[float] = PATIENCE

    def __init__(self, directory: Path | None = None) -> None:
        self._given = directory
        self._stack = ExitStack()
        self.port = 0
        self.process: subprocess.Popen[bytes]

    @property
    def log(self) -> Path:
        """Where the server writes what it has to say."""
        return self.directory / f"{self.name}.log"

    @property
    def scratch(self) -> Path:
        """The server's working directory, empty at its start."""
        return self.directory / self.name

    @abstractmethod
    def _command(self) -> Sequence[str]:
        """Return the command that serves `self.port`."""

    @abstractmethod
    def _environment(self) -> Mapping[str, str]:
        """Return what the server's environment has besides PATH and TMPDIR."""

    @abstractmethod
    def _answers(self) -> bool:
        """Ask the server whether it serves. May raise OSError."""

    def __enter__(self) -> Self:
        """Start the server and wait until it answers. Raises OutOfReach."""
        with ExitStack() as stack:
            self.directory = self._given or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix=f"redrive-{self.name}-")))
            self.directory = self.directory.resolve()
            shutil.rmtree(self.scratch, ignore_errors=True)  # of one that was killed
            self.scratch.mkdir(parents=True)
            stack.callback(shutil.rmtree, self.scratch, ignore_errors=True)
            log = stack.enter_context(self.log.open("wb"))
            self.port = child.free_port()
            # Nothing of the person's own environment: neither their cloud account nor settings of a server of theirs.
            env = {"PATH": os.environ.get("PATH", os.defpath), "TMPDIR": str(self.scratch), **self._environment()}
            self.process = child.spawn(self._command(), env=env, output=log, cwd=self.scratch)
            stack.callback(child.stop, [self.process], grace=0)
            self._wait()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """End the server."""
        self._stack.close()

    def _wait(self) -> None:
        until = time.monotonic() + self.patience
        while time.monotonic() < until:
            if self.process.poll() is not None:
                raise OutOfReach(f"embedded {self.name} ended at its start", hint=self._last_words())
            try:
                if self._answers():
                    return
            except OSError:
                pass  # not listening yet
            time.sleep(0.02)
        raise OutOfReach(f"embedded {self.name} does not answer on 127.0.0.1:{self.port}", hint=self._last_words())

    def _last_words(self) -> str:
        lines = self.log.read_text(errors="replace").splitlines()[-3:]
        return "it said: " + " / ".join(lines) if lines else "it said nothing"
