"""`redrive demo`: the whole story on embedded parts, real at every joint, with proof at the end.

Three Kafka consumers truly conflict, put their failures on SQS, and Redrive's own worker, beat and intake heal them through the
company's API, which misbehaves now and then. Everything is in a temporary directory and on loopback.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console

from tasks.adapters import logs
from tasks.devstack.company.story import Story
from tasks.devstack.demo.stage import Stage
from tasks.devstack.demo.verdict import Verdict
from tasks.devstack.demo.view import watching
from tasks.devstack.processes import interruptible

if TYPE_CHECKING:
    from tasks.devstack.demo.snapshot import Snapshot
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
    logs.configure("WARNING")
    terminal = Console(stderr=True, highlight=False)
    state = Path(tempfile.mkdtemp(prefix="redrive-demo-"))
    telling = True  # whether the logs could tell anything that is worth keeping
    try:
        with interruptible():
            verdict = _play(Story(messages=messages, seed=seed), state, terminal)
        telling = bool(verdict.problems)
        if json_output:
            print(json.dumps(verdict.as_dict(), separators=(",", ":")))  # noqa: T201 - this is the data
        else:
            Console(highlight=False, markup=False, soft_wrap=True).print(verdict.text())
    except KeyboardInterrupt:
        telling = False
        terminal.print("redrive: stopped before the end")
        return INTERRUPTED
    finally:
        if telling:
            terminal.print(f"redrive: what the processes said is in {state}/demo.log", soft_wrap=True)
        else:
            shutil.rmtree(state, ignore_errors=True)
    return 1 if verdict.problems else 0


def _play(story: Story, state: Path, terminal: Console) -> Verdict:
    began = time.monotonic()
    patience = began + PATIENCE + PATIENCE_PER_MESSAGE * max(0, story.messages - PATIENT_WITH)
    with watching(story, terminal, began=began) as view, Stage(story, state, awaiting=view.awaiting) as stage:
        last = _watch(stage, view, patience=patience)
        stage.stop()  # what is counted from here on is the end
        return Verdict(
            story=story,
            last=last,
            audit=stage.audit(),
            stale=stage.company.stale(),
            ended=stage.ended,
            seconds=time.monotonic() - began,
        )


def _watch(stage: Stage, view: View, *, patience: float) -> Snapshot:
    """Produce all messages, and look until all is done, a process has ended, or patience has."""
    producing = stage.produce()
    while True:
        snapshot = stage.look()
        view.show(snapshot)
        now = time.monotonic()
        if snapshot.done or stage.ended or now > patience:
            return snapshot
        while time.monotonic() < now + INTERVAL and next(producing, None):
            pass
        time.sleep(max(0.0, now + INTERVAL - time.monotonic()))
