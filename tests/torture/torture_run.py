"""One run: the stack comes up, the timetable is carried out, the faults end, the system comes to rest."""

from __future__ import annotations

import os
import sqlite3
import sys
import threading
import time
from collections import Counter
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from torture_disk import Clock, fill, small_disk
from torture_log import Log, lines
from torture_plan import PROCESSES, Step, timetable
from torture_sender import Sender
from torture_settings import config
from torture_stack import Stack, wait_for
from torture_world import Observer, World

from tasks.devstack.environment import hermetic

if TYPE_CHECKING:
    from collections.abc import Callable

#: Seconds that the system gets to come to rest. Leases, back-off and visibility of a run are seconds, too.
PATIENCE = 110.0
#: Where this process was told to look for Redrive: a run may be about another working tree.
_OWN_PATH = [os.environ["PYTHONPATH"]] if os.environ.get("PYTHONPATH") else []
#: Seconds that a message may be in a process's hands, and neither in SQS nor in the ledger.
_IN_HAND = 6.0
#: What each kind of process says when it is there.
_UP = {"worker": "ready.", "beat": "beat: Starting", "intake": "drains"}
_IN_CHILDREN = Path(__file__).parent / "child"


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a run is made of. `seconds` are those in which faults happen; `sabotage` names what is broken on purpose."""

    seed: int
    seconds: float = 480.0
    keys: int = 40
    rate: float = 25.0
    sabotage: str = ""


class Run:
    """Carries out one run in `folder`. What it counted is in `faults`, even when it was interrupted."""

    def __init__(self, options: Options, folder: Path, say: Callable[[str], None]) -> None:
        self._options = options
        self._folder = folder
        self._say = say
        self._locks: list[threading.Thread] = []
        self._counts: Counter[str] = Counter()

    @property
    def faults(self) -> dict[str, int]:
        return {name: self._counts[name] for name in sorted(self._counts) if name}

    @property
    def ledger(self) -> Path:
        return self._folder / "ledger" / "ledger.db"

    def carry_out(self) -> bool:
        """Do it all; return whether the system came to rest. All processes have ended on return, however that comes."""
        (self._folder / "ledger").mkdir()
        if why := small_disk(self._folder / "ledger"):
            self._say(f"the disk will not be full: {why}")
        self._has_small_disk = not why
        self._clock = Clock(self._folder)
        if not self._clock.is_there:
            self._say("clocks will not be moved: libfaketime is not installed (Debian: apt-get install faketime)")
        with ExitStack() as stack:
            logs = {name: Log(self._folder / f"{name}.jsonl") for name in ("run", "api", "sqs", "sender", "seen")}
            for log in logs.values():
                stack.callback(log.close)
            self._log = logs["run"]
            self._log.write(event="began", wall=round(time.time() * 1000), seed=self._options.seed)
            self._world = World(self._options.seed, self._counts, logs["api"], logs["sqs"])
            self._world.start()
            stack.callback(self._world.close)
            self._stack = Stack(self._folder, self._env())
            stack.callback(self._stack.close)
            self._sender = Sender(logs["sender"], seed=self._options.seed, keys=self._options.keys, rate=self._options.rate)
            self._come_up()
            observer = Observer(self.ledger, logs["seen"], self._say)
            observer.start()
            stack.callback(observer.close)
            self._sender.start()
            stack.callback(self._sender.stop)
            self._say(f"faults for {self._options.seconds:g} s")
            self._do_harm()
            self._end_harm()
            return self._come_to_rest()

    def _env(self) -> dict[str, str]:
        (self._folder / "redrive.toml").write_text(
            config(folder=self._folder, broker=self._world.wires["broker"].port, api=self._world.wires["api"].port)
        )
        sabotage = {"TORTURE_SABOTAGE": self._options.sabotage} if self._options.sabotage else {}
        own = {
            "REDRIVE_CONFIG": str(self._folder / "redrive.toml"),
            "C_FORCE_ROOT": "1",
            "PYTHONPATH": os.pathsep.join([str(_IN_CHILDREN), *_OWN_PATH]),
            "TMPDIR": str(self._folder),  # who is killed leaves things there
        }
        return hermetic(**own, **sabotage, **self._clock.env)

    def _come_up(self) -> None:
        self._stack.start_sqs()
        self._sender.port = self._world.wires["broker"].upstream = self._stack.sqs_port
        self._world.wires["broker"].is_quiet = True
        for name in PROCESSES:
            self._stack.start(name)
        for name in PROCESSES:
            wait_for(partial(self._is_up, name), seconds=90, what=name)
        wait_for(self.ledger.exists, seconds=30, what="the ledger")
        self._world.wires["broker"].is_quiet = False

    def _is_up(self, name: str) -> bool:
        return _UP[name.rstrip("12")] in self._stack.log(name)

    def _do_harm(self) -> None:
        began = time.monotonic()
        for step in timetable(self._options.seed, self._options.seconds):
            self._pass_time(began + step.at)
            self._do(step)
        self._pass_time(began + self._options.seconds)

    def _pass_time(self, until: float) -> None:
        while (left := until - time.monotonic()) > 0:
            time.sleep(min(left, 0.5))
            self._supervise()

    def _supervise(self) -> None:
        for name in self._stack.supervise():
            self._say(f"{name} has ended by itself, and is started again")

    def _do(self, step: Step) -> None:
        done = self._actions(step)
        self._log.write(event="step", action=step.action, target=step.target, value=step.value, planned=step.at, done=done)
        if step.fault and done:
            self._counts[step.fault] += 1

    def _actions(self, step: Step) -> bool:
        """Do one step; return whether it could be done."""
        actions: dict[str, Callable[[str], object]] = {
            "start": self._stack.start,
            "deploy": self._stack.deploy,
            "retire": self._stack.retire,
            "kill": self._stack.kill,
            "kill_child": partial(self._stack.kill_child, share=step.value),
            "stop_main": self._stack.stop_main,
            "stop_child": partial(self._stack.stop_child, share=step.value),
            "go": self._stack.go,
            "cut": self._world.cut,
            "mend": self._world.mend,
            "broker_kill": lambda _: self._stack.kill_sqs(),
            "broker_start": lambda _: self._restart_sqs(),
            "lock": lambda _: self._lock(step.value),
            "unlocked": lambda _: None,  # the lock ends by itself
            "fill": lambda _: self._fill(),
            "free": lambda _: self._free(),
            "clock": lambda _: self._clock.move(int(step.value)),
        }
        return actions[step.action](step.target) is not False

    def _lock(self, seconds: float) -> None:
        self._locks.append(threading.Thread(target=self._hold, args=(seconds,), daemon=True))
        self._locks[-1].start()

    def _fill(self) -> bool:
        if self._has_small_disk:
            fill(self._folder / "ledger")
        return self._has_small_disk

    def _free(self) -> None:
        (self._folder / "ledger" / "filler").unlink(missing_ok=True)

    def _hold(self, seconds: float) -> None:
        with closing(sqlite3.connect(self.ledger, timeout=5, isolation_level=None)) as ledger:
            try:
                ledger.execute("BEGIN EXCLUSIVE")
            except sqlite3.OperationalError as error:
                self._say(f"the ledger could not be locked: {error}")
                return
            time.sleep(seconds)
            ledger.execute("ROLLBACK")

    def _restart_sqs(self) -> None:
        """SQS comes back empty. What Redrive had not asked to delete by then is gone, and sent again."""
        self._world.cut("broker")  # nobody meets it before the producers' queues are there
        kept = {identity for each in lines(self._folder / "sqs.jsonl") for identity in each["identities"]}
        self._sender.sqs_was_wiped(self._sender.confirmed() - kept)
        self._stack.start_sqs()
        self._world.mend("broker")

    def _end_harm(self) -> None:
        self._say("the faults end; the system comes to rest")
        for lock in self._locks:
            lock.join()
        self._free()
        self._clock.move_past_all()
        self._stack.mend_sqs(self._restart_sqs)
        self._world.be_quiet()
        self._stack.mend()
        self._sender.stop()

    def _come_to_rest(self) -> bool:
        """Wait until every message is out of SQS and in the ledger, and no job waits; return whether that came."""
        end = time.monotonic() + PATIENCE
        missing_since = None
        while time.monotonic() < end:
            messages, jobs, missing = self._open()
            if not (messages or jobs or missing):
                return True
            missing_since = (missing_since or time.monotonic()) if not (messages or jobs) else None
            if missing_since and time.monotonic() > missing_since + _IN_HAND:
                return True  # nobody has them any more: the checker says so
            time.sleep(0.3)
            self._supervise()
        self._say(f"not at rest after {PATIENCE:g} s: {messages} messages in SQS, {jobs} jobs wait, {missing} are missing")
        return False

    def _open(self) -> tuple[int, int, int]:
        """Return how many messages are not sent or in SQS, how many jobs wait, and how many messages are not in the ledger."""
        unsent = 0 if self._sender.flush() else 1
        with closing(sqlite3.connect(f"file:{self.ledger}?mode=ro", uri=True, timeout=5)) as ledger:
            waiting = "SELECT count(*) FROM jobs WHERE state IN ('scheduled', 'retryable', 'executing')"
            (jobs,) = ledger.execute(waiting).fetchone()
            here = {row[0] for row in ledger.execute("SELECT identity FROM dead_letters")}
        return unsent + self._stack.messages(), jobs, len(self._sender.confirmed() - here)


def say(text: str) -> None:
    sys.stderr.write(f"torture: {text}\n")
    sys.stderr.flush()
