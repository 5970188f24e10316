"""One run: the stack comes up, the timetable is carried out, the faults end, the system comes to rest."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections import Counter
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from waiting import until

from harness.celery_sender import CelerySender
from harness.completion import Completion
from harness.kafka import Cluster, KafkaSender
from harness.ledger import SqliteLedger, TorturedLedger
from harness.log import Log, lines
from harness.machine import Clock
from harness.operators import Operators
from harness.postgresql import PostgresqlLedger
from harness.processes import Processes
from harness.rows import keep
from harness.sender import Sender, SqsSender
from harness.servers import Observer, Servers
from harness.settings import QUEUES, config
from harness.sqs import Sqs
from harness.timetable import PROCESSES, Step, timetable
from tasks.devstack.environment import isolate_environment

if TYPE_CHECKING:
    from collections.abc import Callable

#: Seconds from a run's beginning to its end, at most; how many of them are for coming to rest; or how many times the coming up.
_RUN_ENDS, _REST, _SLOWER = 565.0, 120.0, 3.0
#: Seconds in which a machine with nothing else to do has everything up, at most. One that needs so many times as long is so slow.
_COMES_UP, _SLOWEST = 13.0, 5
#: Messages that may be on their way into the ledger. While there are more the senders wait.
_MOST_BEHIND = 250
#: Seconds that a short run may take longer, until there were calls enough.
_MORE = 100.0
#: Where this process was told to look for Redrive: a run may be about another working tree.
_OWN_PATH = [os.environ["PYTHONPATH"]] if os.environ.get("PYTHONPATH") else []
#: What each kind of process says when it is there.
_UP = {"worker": "ready.", "beat": "beat: Starting", "intake": "intake_started"}
_IN_CHILDREN = Path(__file__).parents[1] / "child"
#: Of a run's messages, the share that each of the three queues and Kafka get; and Celery, where each costs a task.
_SHARE, _CELERY = 0.23, 0.08


@dataclass(frozen=True, kw_only=True)
class Options:
    """What a run is made of.

    There are faults for so many `seconds`, and longer on a slow machine until the API was called so often as `calls` says. The
    timetable has `faults` only; `pace` slows it down (0: by the machine). `sabotage` names what is broken on purpose.
    """

    seed: int
    ledger: str = "sqlite"
    seconds: float = 430.0
    calls: int = 0
    keys: int = 40
    rate: float = 25.0
    pace: int = 0
    faults: tuple[str, ...] | None = None
    sabotage: str = ""


class Run:
    """Carries out one run in `folder`. What it counted is in `faults`, even when it was interrupted.

    `unread` messages were still where they had been sent to when it ended.
    """

    def __init__(self, options: Options, folder: Path, say: Callable[[str], None]) -> None:
        self._options = options
        self._folder = folder
        self._say = say
        self._counts: Counter[str] = Counter()
        self.pace = 1
        self.unread = 0
        self._began = time.monotonic()

    @property
    def faults(self) -> dict[str, int]:
        return {name: self._counts[name] for name in sorted(self._counts) if name}

    def carry_out(self) -> bool:
        """Do it all; return whether the system came to rest. All processes have ended on return, however that comes."""
        self._clock = Clock(self._folder)
        if not self._clock.is_there:
            self._say("clocks will not be moved: libfaketime is not installed (Debian: apt-get install faketime)")
        with ExitStack() as stack:
            if self._options.ledger == "sqlite":  # it takes a process with one thread
                self._ledger: TorturedLedger = SqliteLedger(self._folder, self._say)
            self._open_logs(stack)
            told = {"seed": self._options.seed, "ledger": self._options.ledger}
            self._log.write(event="began", wall=round(time.time() * 1000), **told)
            self._surround(stack)
            self._come_up(stack)
            self._say(f"faults for {self._options.seconds:g} s")
            self._do_harm()
            self._end_harm()
            parts = {"ledger": self._ledger, "senders": self._senders, "sqs": self._sqs, "kafka": self._kafka}
            completion = Completion(**parts, operators=self._operators, say=self._say)
            rested = completion.wait(until=self._began + _RUN_ENDS, meanwhile=self._supervise)
            self.unread = completion.unread
            self._processes.close()  # where it did not come to rest, calls are still made, and written down
            keep(self._ledger.direct, self._folder / "rows.jsonl")
            return rested

    # --- coming up ----------------------------------------------------------------------------------------------------

    def _open_logs(self, stack: ExitStack) -> None:
        self._logs = {name: Log(self._folder / f"{name}.jsonl") for name in ("run", "api", "sqs", "sender", "seen", "acts")}
        for log in self._logs.values():
            stack.callback(log.close)
        self._log = self._logs["run"]

    def _surround(self, stack: ExitStack) -> None:
        """Start what Redrive lives among."""
        self._servers = Servers(self._options.seed, self._counts, self._logs["api"], self._logs["sqs"])
        self._servers.start()
        stack.callback(self._servers.close)
        ports = self._servers.wires
        for wire in ports.values():
            wire.is_quiet = True
        self._kafka = Cluster(self._folder)
        self._kafka.start()
        stack.callback(self._kafka.stop)
        if self._options.ledger == "postgresql":
            self._ledger = PostgresqlLedger(self._folder, self._say, wire=ports["ledger"].port, clock=self._clock.env)
            ports["ledger"].upstream = self._ledger.port
        stack.callback(self._ledger.close)
        self._sqs = Sqs(self._folder)
        self._sqs.start()
        stack.callback(self._sqs.kill)
        until(self._kafka.is_up, seconds=60, what="the Kafka cluster")
        ports["broker"].upstream, ports["kafka"].upstream = self._sqs.port, self._kafka.port
        self._senders = self._make_senders()
        for sender in self._senders:
            stack.callback(sender.close)

    def _make_senders(self) -> list[Sender]:
        options, log = self._options, self._logs["sender"]
        common = {"seed": options.seed, "keys": options.keys, "rate": options.rate * _SHARE}
        places = enumerate(QUEUES.values())
        made: list[Sender] = [SqsSender(log, port=self._sqs.port, place=queue, nth=nth, **common) for nth, queue in places]
        made.append(KafkaSender(log, port=self._kafka.port, place="kafka", nth=len(made), **common))
        common |= {"nth": len(made), "rate": options.rate * _CELERY}
        celery = CelerySender(log, port=self._servers.wires["broker"].port, place="celery", **common)
        self._servers.sqs.on_submitted = celery.taken
        return [*made, celery]

    def _env(self) -> dict[str, str]:
        ports = {name: self._servers.wires[name].port for name in ("broker", "api", "kafka")}
        (self._folder / "redrive.toml").write_text(config(folder=self._folder, ledger=self._ledger.url, **ports))
        sabotage = {"TORTURE_SABOTAGE": self._options.sabotage} if self._options.sabotage else {}
        own = {
            "REDRIVE_CONFIG": str(self._folder / "redrive.toml"),
            "C_FORCE_ROOT": "1",
            "PYTHONPATH": os.pathsep.join([str(_IN_CHILDREN), *_OWN_PATH]),
            "TMPDIR": str(self._folder),  # who is killed leaves things there
            "PYTHONFAULTHANDLER": "1",
        }
        return isolate_environment(**own, **sabotage, **self._clock.env)

    def _come_up(self, stack: ExitStack) -> None:
        env = self._env()
        self._processes = Processes(self._folder, env)
        stack.callback(self._processes.close)
        for name in PROCESSES:
            self._processes.start(name)
        for name in PROCESSES:
            self._await(name)
        until(self._ledger.is_there, seconds=30, what="the ledger")
        for wire in self._servers.wires.values():
            wire.is_quiet = False
        self._operators = Operators(self._folder, env, self._ledger, self._logs["acts"], self._counts)
        self._operators.start()
        stack.callback(self._operators.abort)
        self._observer = Observer(self._ledger, self._logs["seen"], self._say)
        self._observer.start()
        stack.callback(self._observer.close)
        for sender in self._senders:
            sender.start()
            stack.callback(sender.stop)

    def _await(self, name: str) -> None:
        """Wait until the process is there. One that is not is asked where it stands, and started again."""
        for _ in range(2):
            with suppress(AssertionError):
                until(partial(self._is_up, name), seconds=40, what=name)
                return
            self._say(f"{name} has not come up, and is started again; its log says where it stood")
            self._processes.renew(name)
        until(partial(self._is_up, name), seconds=40, what=name)

    def _is_up(self, name: str) -> bool:
        return _UP[name.rstrip("12")] in self._processes.log(name)

    # --- the faults ---------------------------------------------------------------------------------------------------

    def _do_harm(self) -> None:
        began = time.monotonic()
        options, took = self._options, began - self._began
        end = min(began + options.seconds, self._began + _RUN_ENDS - max(_REST, _SLOWER * took))
        self.pace = options.pace or min(max(round(took / _COMES_UP), 1), _SLOWEST)
        if self.pace > 1:
            self._say(f"a slow machine: came up in {took:.0f} s, and gets its faults at a pace of 1/{self.pace}")
        for step in timetable(options.seed, options.seconds, options.ledger, only=options.faults, pace=self.pace):
            if began + step.at >= end:
                self._say(f"came up late: the faults end {began + options.seconds - end:.0f} s early")
                break
            self._pass_time(began + step.at)
            self._do(step)
        self._pass_time(end)
        while self._servers.api.calls < self._options.calls and time.monotonic() < end + _MORE:
            self._pass_time(time.monotonic() + 0.5)

    def _pass_time(self, end: float) -> None:
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(left, 0.5))
            self._supervise()

    def _supervise(self) -> None:
        behind = sum(len(sender.confirmed()) for sender in self._senders) - self._observer.letters
        for sender in self._senders:
            sender.is_held = behind > _MOST_BEHIND
        for name in self._processes.supervise():
            self._say(f"{name} has ended by itself, and is started again")

    def _do(self, step: Step) -> None:
        done = self._actions(step)[step.action](step.target) is not False
        self._log.write(event="step", action=step.action, target=step.target, value=step.value, planned=step.at, done=done)
        if step.fault and done:
            self._counts[step.fault] += 1

    def _actions(self, step: Step) -> dict[str, Callable[[str], object]]:
        """Return what each action does. One that returns False could not be done."""
        of_ledger = {name: lambda _, act=act: act() for name, act in self._ledger.actions().items()}
        return {
            **of_ledger,
            "start": self._processes.start,
            "deploy": self._processes.deploy,
            "retire": self._processes.retire,
            "kill": self._processes.kill,
            "kill_child": partial(self._processes.kill_child, share=step.value),
            "stop_main": self._processes.stop_main,
            "stop_child": partial(self._processes.stop_child, share=step.value),
            "go": self._processes.go,
            "cut": self._servers.cut,
            "mend": self._servers.mend,
            "broker_kill": lambda _: self._sqs.kill(),
            "broker_start": lambda _: self._restart_sqs(),
            "kafka_stall": lambda _: self._kafka.send(signal.SIGSTOP),
            "kafka_go": lambda _: self._kafka.send(signal.SIGCONT),
            "lock": lambda _: self._ledger.lock(step.value),
            "unlocked": lambda _: None,  # the lock ends by itself
            "clock": lambda _: self._clock.move(int(step.value)),
            "pause": self._operators.pause,
            "resume": self._operators.resume,
            "replay": lambda _: self._operators.act("replay", step.value),
            "discard": lambda _: self._operators.act("discard", step.value),
        }

    def _restart_sqs(self) -> None:
        """SQS comes back empty. What Redrive had not asked to delete by then is gone, and sent again."""
        self._servers.cut("broker")  # nobody meets it before the producers' queues are there
        kept = {identity for each in lines(self._folder / "sqs.jsonl") for identity in each["identities"]}
        for sender in self._senders:
            if not isinstance(sender, KafkaSender):
                sender.forgotten(sender.confirmed() - kept)
        self._sqs.start()
        self._servers.mend("broker")

    # --- coming to rest -----------------------------------------------------------------------------------------------

    def _end_harm(self) -> None:
        self._say("the faults end; the system comes to rest")
        self._clock.move_past_all()
        self._kafka.send(signal.SIGCONT)
        if self._sqs.is_down:
            self._restart_sqs()
        self._servers.be_quiet()
        self._ledger.mend()
        self._processes.mend()
        for sender in self._senders:
            sender.stop()
        self._operators.come_to_rest()


def say(text: str) -> None:
    sys.stderr.write(f"torture: {text}\n")
    sys.stderr.flush()
