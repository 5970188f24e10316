"""`redrive demo`: everything on embedded servers, with real conflicts, real recovery and an audit at the end.

Three Kafka consumers conflict and send their failures to SQS. Redrive's own worker, beat and intake recover them through the
company's API, which fails some calls on purpose. All files are in a temporary directory, and all connections on loopback.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from tasks.adapters import logs
from tasks.devstack.company.workload import Workload
from tasks.devstack.demo.progress import ProgressPrinter
from tasks.devstack.demo.report import Report, describe_snapshot
from tasks.devstack.demo.snapshot import Snapshot
from tasks.devstack.demo.system import DemoSystem
from tasks.devstack.processes import interruptible
from tasks.dlq.text import format_count

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Seconds that a demo of up to 400 messages may take after its start, and what each further message adds.
TIMEOUT = 120.0
TIMEOUT_MESSAGES = 400
TIMEOUT_PER_MESSAGE = 0.04
#: Seconds between two snapshots.
INTERVAL = 0.3
#: The exit code that a shell reports for a process that SIGINT has ended.
INTERRUPTED = 130


def run(*, messages: int, seed: int, json_output: bool) -> int:
    """Run a demo with so many messages. Print its progress on stderr and its report on stdout.

    Returns:
        0 if everything was recovered and nothing lost, 1 if not or not in time, 130 after Ctrl-C.

    Raises:
        RedriveError: a part could not start.
    """
    logs.configure("ERROR")
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    demo = _Demo(Workload(messages=messages, seed=seed), Path(tempfile.mkdtemp(prefix="redrive-demo-")), console)
    keep_log = True
    try:
        with interruptible():
            report = demo.run()
        keep_log = bool(report.problems)
        if json_output:
            _print_json(report.as_dict())
        else:
            Console(highlight=False, markup=False, soft_wrap=True).print(report.format())
    except KeyboardInterrupt:
        keep_log = False
        console.print("redrive: stopped before the end")
        if json_output:
            _print_json({**describe_snapshot(demo.workload, demo.last, seconds=demo.seconds), "interrupted": True, "ok": False})
        return INTERRUPTED
    finally:
        if keep_log:
            console.print(f"redrive: the output of the processes is in {demo.directory}/demo.log")
        else:
            shutil.rmtree(demo.directory, ignore_errors=True)
    return 1 if report.problems else 0


class _Demo:
    """One demo. `last` is the last snapshot, also after an interrupt."""

    def __init__(self, workload: Workload, directory: Path, console: Console) -> None:
        self.workload = workload
        self.directory = directory
        self.last = Snapshot(messages=workload.messages)
        self._printer = ProgressPrinter(console)
        console.print(
            f"redrive demo: {format_count(workload.messages, 'message')} about {len(workload.employees)} employees,"
            f" three consumers, seed {workload.seed}"
        )

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return self._printer.seconds

    def run(self) -> Report:
        """Run the demo until it is done, has failed, or takes too long."""
        with DemoSystem(self.workload, self.directory, report=self._printer.print_missing) as system:
            self._watch(system)
            ended = system.find_ended()
            system.stop()  # the ledger changes no more
            return Report(
                workload=self.workload,
                last=self.last,
                audit=system.audit(),
                stale=system.company.find_stale(),
                ended=ended,
                seconds=self.seconds,
            )

    def _watch(self, system: DemoSystem) -> None:
        """Produce all messages, and take snapshots until the demo is over."""
        timeout = TIMEOUT + TIMEOUT_PER_MESSAGE * max(0, self.workload.messages - TIMEOUT_MESSAGES)
        deadline = time.monotonic() + timeout
        producing = system.produce()
        while True:
            self.last = system.take_snapshot()
            self._printer.print_snapshot(self.last)
            if self.last.done or system.find_ended() or time.monotonic() > deadline:
                return
            pause_until = time.monotonic() + INTERVAL
            while time.monotonic() < pause_until and next(producing, False):
                pass
            time.sleep(max(0.0, pause_until - time.monotonic()))


def _print_json(result: Mapping[str, Any]) -> None:
    print(json.dumps(result, separators=(",", ":")))  # noqa: T201 - this is the data
