"""Redrive's processes as people start them, in a folder of the run's own."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

import psutil

from harness.timetable import PROCESSES
from tasks.devstack import child

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Mapping
    from pathlib import Path

#: Seconds of grace at the end: a call and its settle.
GRACE = 8.0


class Processes:
    """Names stand for whichever process has the name now; a deploy's new process takes it from the old one."""

    def __init__(self, folder: Path, env: Mapping[str, str]) -> None:
        self._folder = folder
        self._env = env
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self._retiring: dict[str, subprocess.Popen[bytes]] = {}
        self._all: list[subprocess.Popen[bytes]] = []
        self._down: set[str] = set()
        self._starts = 0

    def start(self, name: str) -> None:
        """Start a process of this name, beside one that may still be there."""
        self._starts += 1
        self._down.discard(name)
        python, env = [sys.executable, "-m"], dict(self._env)
        if name.startswith("intake"):
            env.pop("LD_PRELOAD", None)  # child/moved_clock.py says why
            command = [*python, "tasks.cli", "intake"]
        elif name.startswith("beat"):
            command = [*python, "celery", "-A", "tasks", "beat", "--loglevel=INFO", f"--schedule={self._folder / name}"]
        else:
            host = f"--hostname={name}-{self._starts}@%h"
            command = [*python, "celery", "-A", "tasks", "worker", "--loglevel=INFO", host]
        with (self._folder / f"{name}.log").open("ab") as log:
            self._running[name] = child.spawn(command, env=env, output=log, cwd=self._folder)
        self._all.append(self._running[name])

    def renew(self, name: str) -> None:
        """End a process that hangs, with its stack in its log, and start another."""
        self._signal(self._running[name].pid, signal.SIGABRT)
        self._running[name].wait()
        self.start(name)

    def deploy(self, name: str) -> None:
        """Start the new process; `retire` ends the old one. Both work meanwhile."""
        if name in self._running:
            self._retiring[name] = self._running[name]
        self.start(name)

    def retire(self, name: str) -> None:
        if old := self._retiring.pop(name, None):
            self._signal(old.pid, signal.SIGCONT)
            self._signal(old.pid, signal.SIGTERM)

    def kill(self, name: str) -> None:
        """Kill the process alone: what it had started sees to itself."""
        self._down.add(name)
        self._signal(self._running[name].pid, signal.SIGKILL)

    def kill_child(self, name: str, share: float) -> bool:
        return self._to_child(name, share, signal.SIGKILL)

    def stop_main(self, name: str) -> None:
        self._signal(self._running[name].pid, signal.SIGSTOP)

    def stop_child(self, name: str, share: float) -> bool:
        return self._to_child(name, share, signal.SIGSTOP)

    def go(self, name: str) -> None:
        """Let the process and its children go on."""
        process = self._running[name]
        for pid in (*self._children(process), process.pid):
            self._signal(pid, signal.SIGCONT)

    def mend(self) -> None:
        """Have every process there, and going on."""
        self._down.clear()
        self.supervise()
        for name in PROCESSES:
            self.retire(name)
            self.go(name)

    def supervise(self) -> list[str]:
        """Start again, as a supervisor would, what has ended without being killed; return the names."""
        fallen = [name for name in PROCESSES if name not in self._down and self._running[name].poll() is not None]
        for name in fallen:
            self.start(name)
        return fallen

    def log(self, name: str) -> str:
        file = self._folder / f"{name}.log"
        return file.read_text(errors="replace") if file.exists() else ""

    def close(self) -> None:
        """End all processes that were ever started here."""
        ending, self._all = self._all, []
        for process in ending:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGCONT)
        child.stop(ending, grace=GRACE)

    def _to_child(self, name: str, share: float, number: int) -> bool:
        children = self._children(self._running[name])
        if not children:
            return False
        self._signal(children[int(share * len(children))], number)
        return True

    def _children(self, process: subprocess.Popen[bytes]) -> list[int]:
        try:
            return sorted(each.pid for each in psutil.Process(process.pid).children())
        except psutil.NoSuchProcess:
            return []

    def _signal(self, pid: int, number: int) -> None:
        with suppress(ProcessLookupError):
            os.kill(pid, number)
