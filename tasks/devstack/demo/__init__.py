"""`redrive demo`: the whole story on embedded parts, real at every joint, with proof at the end.

Three Kafka consumers truly conflict, put their failures on SQS, and Redrive's own worker, beat and intake heal them through the
company's API, which misbehaves now and then. Everything is in a temporary directory and on loopback.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from tasks.adapters import logs
from tasks.devstack.company.story import Story
from tasks.devstack.demo.snapshot import Snapshot
from tasks.devstack.demo.stage import Stage
from tasks.devstack.demo.verdict import Verdict, seen
from tasks.devstack.demo.view import watching
from tasks.devstack.processes import interruptible

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tasks.devstack.demo.view import View

#: Seconds after which a demo of up to 400 messages gives up; each further message allows it a little more.
PATIENCE = 55.0
PATIENT_WITH = 400
PATIENCE_PER_MESSAGE = 0.04
#: Seconds between two looks.
INTERVAL = 0.3
#: What a shell reports for a process that ended by SIGINT.
INTERRUPTED = 130


def run(*, messages: int, seed: int, json_output: bool) -> int:
    """Play the story of so many messages, tell about it on stderr and of its end on stdout; return the exit code.

    0: everything was healed and nothing lost; 1: it was not, or not in time; 130: Ctrl-C.

    Raises:
        RedriveError: a part could not start.
    """
    logs.configure("ERROR")
    # Whatever the environment says of colours: a live table is for a terminal.
    terminal = Console(stderr=True, highlight=False, soft_wrap=True, force_terminal=None if sys.stderr.isatty() else False)
    play = _Play(Story(messages=messages, seed=seed), Path(tempfile.mkdtemp(prefix="redrive-demo-")))
    telling = True  # whether the logs could tell anything that is worth keeping
    try:
        with interruptible():
            verdict = play.run(terminal)
        telling = bool(verdict.problems)
        if json_output:
            _print(verdict.as_dict())
        else:
            Console(highlight=False, markup=False, soft_wrap=True).print(verdict.text())
    except KeyboardInterrupt:
        telling = False
        terminal.print("redrive: stopped before the end")
        if json_output:
            _print({**seen(play.story, play.last, seconds=play.seconds), "interrupted": True, "ok": False})
        return INTERRUPTED
    finally:
        if telling:
            terminal.print(f"redrive: what the processes said is in {play.state}/demo.log")
        else:
            shutil.rmtree(play.state, ignore_errors=True)
    return 1 if verdict.problems else 0


class _Play:
    """One run of the story. `last` is what was seen last, however it ended."""

    def __init__(self, story: Story, state: Path) -> None:
        self.story = story
        self.state = state
        self.last = Snapshot(messages=story.messages)
        self._began = time.monotonic()

    @property
    def seconds(self) -> float:
        """How long it has been going."""
        return time.monotonic() - self._began

    def run(self, terminal: Console) -> Verdict:
        """Play it to its end."""
        story = self.story
        with watching(story, terminal, began=self._began) as view, Stage(story, self.state, awaiting=view.awaiting) as stage:
            self._watch(stage, view)
            stage.stop()  # what is counted from here on is the end
            return Verdict(
                story=story,
                last=self.last,
                audit=stage.audit(),
                stale=stage.company.stale(),
                ended=stage.ended,
                seconds=self.seconds,
            )

    def _watch(self, stage: Stage, view: View) -> None:
        """Produce all messages, and look until all is done, a process has ended, or patience has."""
        patience = PATIENCE + PATIENCE_PER_MESSAGE * max(0, self.story.messages - PATIENT_WITH)
        producing = stage.produce()
        while True:
            self.last = stage.look()
            view.show(self.last)
            now = time.monotonic()
            if self.last.done or stage.ended or self.seconds > patience:
                return
            while time.monotonic() < now + INTERVAL and next(producing, None):
                pass
            time.sleep(max(0.0, now + INTERVAL - time.monotonic()))


def _print(result: Mapping[str, Any]) -> None:
    print(json.dumps(result, separators=(",", ":")))  # noqa: T201 - this is the data
