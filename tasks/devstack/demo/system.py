"""Everything that a demo runs: the embedded servers, the sample company, and Redrive's own processes."""

from __future__ import annotations

import contextlib
import http.client
import json
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Self

from rich.console import Console
from sqlalchemy import func, select

from tasks.adapters.sqs import Connection, count_messages
from tasks.adapters.sqs.queues import ensure_queue
from tasks.devstack import child
from tasks.devstack.commands import make_company_command, make_redrive_commands
from tasks.devstack.company.barrier import serve_barriers
from tasks.devstack.company.consumer import BARRIER, READY_TEXT, format_change
from tasks.devstack.company.store import Company
from tasks.devstack.company.workload import CONFLICT_PARTITIONS
from tasks.devstack.demo.config import QUEUE, TOML
from tasks.devstack.demo.snapshot import NO_CALLS, Snapshot
from tasks.devstack.environment import isolate_environment
from tasks.devstack.kafka import EmbeddedKafka
from tasks.devstack.processes import Command, Processes
from tasks.devstack.sqs import EmbeddedSqs
from tasks.dlq.ledger import Ledger, migrations
from tasks.dlq.ledger.audit import audit
from tasks.dlq.ledger.queries import count_jobs
from tasks.dlq.ledger.schema import tallies
from tasks.names import RECOVERY_QUEUE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from tasks.devstack.company.workload import Workload
    from tasks.dlq.ledger.audit import Audit

TOPIC = "employee-changes"
CONSUMERS = tuple(f"consumer-{number}" for number in range(1, len(CONFLICT_PARTITIONS) + 1))
#: Seconds between SIGTERM and SIGKILL. A demo that has ended has no open call, and one that has failed need not wait for it.
GRACE = 4.0
#: The first consumer of the group gets all partitions, until the others have joined. Then each of the three has one or two.
CONSUMER_READY = rf"{READY_TEXT} \[\d(, \d)?\]"


class DemoSystem:
    """Runs while this context manager is open. After `stop` the databases can still be read.

    Args:
        workload: the messages to produce.
        directory: an empty directory for all files.
        report: is called with the names of the processes that are not ready.
    """

    def __init__(self, workload: Workload, directory: Path, *, report: Callable[[Sequence[str]], None]) -> None:
        self._workload = workload
        self._directory = directory
        self._report = report
        self._statistics: Mapping[str, Any] = NO_CALLS
        self.company: Company

    def __enter__(self) -> Self:
        """Start everything, and wait until it is ready. Raises RedriveError."""
        with ExitStack() as stack:
            self._create_databases(stack)
            self._running = stack.enter_context(ExitStack())
            self._start(self._running)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def stop(self) -> None:
        """Stop all processes and servers."""
        self._running.close()

    def find_ended(self) -> child.Ended | None:
        """Return a process that has ended by itself, if there is one."""
        return self._processes.find_ended()

    def produce(self) -> Iterator[bool]:
        """Change the upstream facts and produce a message about it, one at each step of the iterator."""
        for planned in self._workload.generate():
            self.company.change_facts(planned.change)
            headers = {BARRIER: planned.barrier} if planned.barrier else {}
            self._kafka.produce(TOPIC, format_change(planned.change), partition=planned.partition, headers=headers)
            yield True
        self._kafka.flush()

    def take_snapshot(self) -> Snapshot:
        """Return the present state."""
        with self._ledger.begin(read_only=True) as tx:
            accepted = tx.connection.scalar(select(func.coalesce(func.sum(tallies.c.accepted), 0))) or 0
            jobs = count_jobs(tx).get("employees", {})
        return Snapshot(
            messages=self._workload.messages,
            progress=self.company.count_progress(),
            queued=count_messages(self._sqs, QUEUE),
            wakeups=count_messages(self._sqs, RECOVERY_QUEUE),
            accepted=accepted,
            jobs=jobs,
            statistics=self._get_statistics(),
        )

    def audit(self) -> Audit:
        """Return the ledger's audit."""
        with self._ledger.begin(read_only=True) as tx:
            return audit(tx)

    def _create_databases(self, stack: ExitStack) -> None:
        self._ledger = Ledger(f"sqlite:///{self._directory}/ledger.db")
        stack.callback(self._ledger.close)
        migrations.upgrade(self._ledger)
        (self._directory / "company").mkdir()
        self.company = Company(self._directory / "company")
        stack.callback(self.company.close)
        self.company.create(self._workload.employees)

    def _start(self, stack: ExitStack) -> None:
        sqs = stack.enter_context(EmbeddedSqs(self._directory))
        self._kafka = stack.enter_context(EmbeddedKafka())
        self._kafka.make(TOPIC)
        barrier_port = stack.enter_context(serve_barriers(len(CONSUMERS)))
        self._sqs = Connection(
            region=sqs.region,
            endpoint_url=sqs.endpoint,
            access_key_id="demo",
            secret_access_key="demo",  # noqa: S106
        ).client()
        stack.callback(self._sqs.close)
        ensure_queue(self._sqs, QUEUE, visibility_timeout=30, max_receives=5)
        self._api_port = child.free_port()
        config = self._directory / "redrive.toml"
        config.write_text(TOML.format(directory=self._directory, sqs_port=sqs.port, api_port=self._api_port, queue=QUEUE))
        env = isolate_environment(REDRIVE_CONFIG=str(config), AWS_ACCESS_KEY_ID="demo", AWS_SECRET_ACCESS_KEY="demo")  # noqa: S106
        faults = ("--seed", str(self._workload.seed), "--faults", "bounded")
        commands = [
            make_company_command(self._directory / "company", self._api_port, *faults, env=env),
            *make_redrive_commands(env),
            *(self._make_consumer_command(name, sqs, barrier_port, env) for name in CONSUMERS),
        ]
        log = stack.enter_context((self._directory / "demo.log").open("w"))
        self._processes = stack.enter_context(Processes(commands, console=Console(file=log), grace=GRACE))
        self._processes.wait_until_ready(hint=f"its output is in {log.name}", report=self._report)

    def _make_consumer_command(self, name: str, sqs: EmbeddedSqs, barrier_port: int, env: dict[str, str]) -> Command:
        options = {
            "name": name,
            "bootstrap": self._kafka.bootstrap,
            "topic": TOPIC,
            "barrier-port": str(barrier_port),
            "sqs": sqs.endpoint,
            "region": sqs.region,
            "queue": QUEUE,
        }
        argv = [sys.executable, "-m", "tasks.devstack.company.consumer", str(self._directory / "company")]
        argv += [part for option, value in options.items() for part in (f"--{option}", value)]
        return Command(name=name, argv=argv, env=env, ready_pattern=CONSUMER_READY)

    def _get_statistics(self) -> Mapping[str, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self._api_port, timeout=5)
        with contextlib.suppress(OSError):  # it has ended, which `find_ended` reports, or is too busy to answer
            connection.request("GET", "/stats")
            self._statistics = json.loads(connection.getresponse().read())
        connection.close()
        return self._statistics
