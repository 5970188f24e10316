"""Operators: people who pause routes, replay and discard jobs by the command line while everything else goes wrong."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any

from harness.ledger import UnreadableError
from harness.sender import FIRST_RARE
from tasks.devstack import child

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from harness.ledger import TorturedLedger
    from harness.log import Log

#: Jobs that one command is about.
_AT_ONCE = 4
#: Seconds that a command may take, on a busy machine with a ledger that waits.
_PATIENCE = 75.0
#: Exit codes of a command that did something: all, or partly.
_DID = {0, 3}
_STATES = {"replay": {"parked", "discarded", "completed"}, "discard": {"parked", "scheduled", "retryable"}}


class Operator:
    """One person: a command at a time, in the order asked for. What came of it is in the log."""

    def __init__(self, folder: Path, env: Mapping[str, str], log: Log, counts: Counter[str]) -> None:
        self._folder = folder
        self._env = env
        self._log = log
        self._counts = counts
        self._asked: SimpleQueue[Callable[[], None]] = SimpleQueue()
        self._is_resting = False
        self._process: subprocess.Popen[bytes] | None = None
        self._thread = threading.Thread(target=self._run, name="operator", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def ask(self, action: str, arguments: Callable[[], Sequence[str]]) -> None:
        """Have `redrive ACTION ARGUMENTS` carried out when it is its turn; no arguments, no act."""
        self._asked.put(lambda: self._act(action, arguments()))

    def come_to_rest(self) -> None:
        """Do nothing more than what is in hand, but let routes go on."""
        self._is_resting = True

    def at_work(self) -> int:
        return self._asked.qsize() + (self._process is not None)

    def abort(self) -> None:
        """End the act in hand."""
        self._is_resting = True
        if process := self._process:
            child.stop([process], grace=0)

    def _run(self) -> None:
        while True:
            self._asked.get()()

    def _act(self, action: str, arguments: Sequence[str]) -> None:
        if not arguments or (self._is_resting and action != "resume"):
            return
        for _ in range(4 if action == "resume" else 1):  # a person who is told "out of reach" tries again
            if self.carry_out(action, arguments) in _DID:
                self._counts[f"op_{action}"] += 1
                return

    def carry_out(self, action: str, arguments: Sequence[str]) -> int:
        """Run the command; return its exit code, or -1 when it was ended here."""
        yes = ["--yes"] if action == "discard" else []
        command = [sys.executable, "-m", "tasks.cli", action, *arguments, "--json", *yes, "--reason", "torture"]
        began = time.monotonic()
        said = self._folder / f"act-{threading.get_ident()}"
        with said.open("wb") as output:
            self._process = process = child.spawn(command, env=self._env, output=output, cwd=self._folder)
            try:
                code = process.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                code = -1
            finally:
                child.stop([process], grace=0)
                self._process = None
        results = {str(each["job"]): each["result"] for each in _objects(said) if "job" in each}
        self._log.write(event="act", action=action, arguments=list(arguments), began=began, code=code, results=results)
        return code


def _objects(file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in file.read_text(errors="replace").splitlines() if line.startswith("{")]


class Operators:
    """One person for the routes, one for the jobs."""

    def __init__(self, folder: Path, env: Mapping[str, str], ledger: TorturedLedger, log: Log, counts: Counter[str]) -> None:
        self._ledger = ledger
        self._of_routes, self._of_jobs = (Operator(folder, env, log, counts) for _ in range(2))

    def start(self) -> None:
        self._of_routes.start()
        self._of_jobs.start()

    def pause(self, route: str) -> None:
        self._of_routes.ask("pause", lambda: [route])

    def resume(self, route: str) -> None:
        self._of_routes.ask("resume", lambda: [route])

    def act(self, action: str, share: float) -> None:
        """Replay or discard some jobs, those that fail rarely before others."""
        self._of_jobs.ask(action, lambda: self._some_jobs(action, share))

    def come_to_rest(self) -> None:
        """Do nothing more, but let routes go on. What is in hand goes on for a while: see `at_work`."""
        for each in (self._of_routes, self._of_jobs):
            each.come_to_rest()

    def at_work(self) -> int:
        """Return how many acts are in hand or asked for."""
        return self._of_routes.at_work() + self._of_jobs.at_work()

    def abort(self) -> None:
        """Leave no process behind."""
        self._of_routes.abort()
        self._of_jobs.abort()

    def _some_jobs(self, action: str, share: float) -> list[str]:
        try:
            jobs = self._ledger.query("SELECT id, key, state FROM jobs ORDER BY id")
        except UnreadableError:
            return []
        found = [(job, key) for job, key, state in jobs if state in _STATES[action]]
        rare = [job for job, key in found if int(json.loads(key)["id"]) >= FIRST_RARE]
        chosen = rare if rare and share < 0.8 else [job for job, _ in found]
        first = int(share * 1000 % 1 * len(chosen))
        return [str(job) for job in chosen[first : first + _AT_ONCE]]
