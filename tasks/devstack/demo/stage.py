"""Everything that a demo runs: the embedded parts, the company, and Redrive's own processes."""

from __future__ import annotations

import http.client
import json
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Self

from rich.console import Console
from sqlalchemy import func, select

from tasks.adapters.queues import Connection, ensure_queue
from tasks.devstack import child
from tasks.devstack.company.consumer import ASSIGNED, MEETING, written
from tasks.devstack.company.rendezvous import Rendezvous
from tasks.devstack.company.store import Company
from tasks.devstack.company.story import MEETING_PARTITIONS, PARTITIONS
from tasks.devstack.demo.config import QUEUE, TOML
from tasks.devstack.demo.snapshot import Calls, Snapshot
from tasks.devstack.environment import hermetic
from tasks.devstack.kafka import EmbeddedKafka
from tasks.devstack.processes import Command, Ended, Processes
from tasks.devstack.readiness import Readiness
from tasks.devstack.service import READY, company_api, service
from tasks.devstack.sqs import EmbeddedSqs
from tasks.dlq.ledger import Ledger, migrations
from tasks.dlq.ledger.audit import audit
from tasks.dlq.ledger.queries import counts
from tasks.dlq.ledger.schema import tallies

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from mypy_boto3_sqs.literals import QueueAttributeFilterType

    from tasks.devstack.company.story import Story
    from tasks.dlq.ledger.audit import Audit

TOPIC = "employee-changes"
CONSUMERS = tuple(f"consumer-{number}" for number in range(1, len(MEETING_PARTITIONS) + 1))
#: Seconds between SIGTERM and SIGKILL: at a good end nothing is open, at another nothing is worth a wait.
GRACE = 4.0
_DEPTH: list[QueueAttributeFilterType] = [
    "ApproximateNumberOfMessages",
    "ApproximateNumberOfMessagesNotVisible",
    "ApproximateNumberOfMessagesDelayed",
]


class Stage:
    """A context manager: entered, everything runs and waits for messages; stopped, the databases can still be read.

    `awaiting` is called with the names of what has not started yet, while that is waited for.
    """

    def __init__(self, story: Story, state: Path, *, awaiting: Callable[[Sequence[str]], None]) -> None:
        self._story = story
        self._state = state
        self._awaiting = awaiting
        self._partitions: dict[str, list[int]] = {}
        self._calls_seen = Calls()
        self.company: Company
        self.ended: Ended | None = None

    def __enter__(self) -> Self:
        """Start everything. Raises RedriveError."""
        with ExitStack() as stack:
            self._open(stack)
            self._running = stack.enter_context(ExitStack())
            self._start(self._running)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop everything, and let go of the databases."""
        self._stack.close()

    def stop(self) -> None:
        """Stop everything."""
        self._running.close()

    def _open(self, stack: ExitStack) -> None:
        self._ledger = Ledger(f"sqlite:///{self._state}/ledger.db")
        stack.callback(self._ledger.close)
        migrations.upgrade(self._ledger)
        (self._state / "company").mkdir()
        self.company = Company(self._state / "company")
        stack.callback(self.company.close)
        self.company.found(self._story.employees)

    def _start(self, stack: ExitStack) -> None:
        sqs = stack.enter_context(EmbeddedSqs(self._state))
        self._kafka = stack.enter_context(EmbeddedKafka())
        self._kafka.make(TOPIC)
        meetings = stack.enter_context(Rendezvous(len(CONSUMERS)))
        self._sqs = Connection(
            region=sqs.region,
            endpoint_url=sqs.endpoint,
            access_key_id="demo",
            secret_access_key="demo",  # noqa: S106
        ).client()
        stack.callback(self._sqs.close)
        ensure_queue(self._sqs, QUEUE, visibility_timeout=30, max_receives=5)
        self._api = child.free_port()
        config = self._state / "redrive.toml"
        config.write_text(TOML.format(state=self._state, sqs=sqs.port, api=self._api, queue=QUEUE))
        env = hermetic(REDRIVE_CONFIG=str(config), AWS_ACCESS_KEY_ID="demo", AWS_SECRET_ACCESS_KEY="demo")  # noqa: S106 - any is good
        log = stack.enter_context((self._state / "demo.log").open("w"))
        seed = ("--seed", str(self._story.seed), "--faults", "bounded")
        commands = [company_api(self._state / "company", self._api, *seed, env=env), *service(env)]
        commands += [self._consumer(name, sqs=sqs, meetings=meetings.port, env=env) for name in CONSUMERS]
        readiness = Readiness(
            READY,
            {"company": (self._api, "/health")},
            also=self._unassigned,
            told=self._awaiting,
            where=f"in {self._state}/demo.log",
        )

        def heard(name: str, line: str) -> None:
            readiness.heard(name, line)
            if line.startswith(f"{ASSIGNED} "):
                self._partitions[name] = json.loads(line.removeprefix(ASSIGNED))

        self._processes = stack.enter_context(Processes(commands, console=Console(file=log), grace=GRACE, heard=heard))
        readiness.wait(self._processes)

    def _consumer(self, name: str, *, sqs: EmbeddedSqs, meetings: int, env: dict[str, str]) -> Command:
        options = {
            "name": name,
            "bootstrap": self._kafka.bootstrap,
            "topic": TOPIC,
            "rendezvous": str(meetings),
            "sqs": sqs.endpoint,
            "region": sqs.region,
            "queue": QUEUE,
        }
        argv = [sys.executable, "-m", "tasks.devstack.company.consumer", str(self._state / "company")]
        argv += [part for option, value in options.items() for part in (f"--{option}", value)]
        return Command(name=name, argv=argv, env=env)

    def _unassigned(self) -> list[str]:
        """Return the consumers without a partition; all of them while not every partition is in one pair of hands."""
        held = sorted(partition for partitions in self._partitions.values() for partition in partitions)
        waiting = [name for name in CONSUMERS if not self._partitions.get(name)]
        return waiting if held == list(range(PARTITIONS)) else list(CONSUMERS)

    def produce(self) -> Iterator[bool]:
        """Let the neighbour's facts change and a message tell so, one by one, as this is iterated over."""
        for event in self._story.events():
            self.company.learn(event.change)
            headers = {MEETING: event.meeting} if event.meeting else {}
            self._kafka.produce(TOPIC, written(event.change), partition=event.partition, headers=headers)
            yield True
        self._kafka.flush()

    def look(self) -> Snapshot:
        """Return what is to be seen now."""
        self.ended = self._processes.ended()
        with self._ledger.begin(read_only=True) as tx:
            accepted = tx.connection.scalar(select(func.coalesce(func.sum(tallies.c.accepted), 0))) or 0
            jobs = counts(tx).get("employees", {})
        return Snapshot(
            messages=self._story.messages,
            progress=self.company.progress(),
            queued=self._depth(QUEUE),
            bells=self._depth("redrive-recovery"),
            accepted=accepted,
            jobs=jobs,
            calls=self._calls(),
        )

    def audit(self) -> Audit:
        """Return the ledger's audit."""
        with self._ledger.begin(read_only=True) as tx:
            return audit(tx)

    def _depth(self, queue: str) -> int:
        url = self._sqs.get_queue_url(QueueName=queue)["QueueUrl"]
        found = self._sqs.get_queue_attributes(QueueUrl=url, AttributeNames=_DEPTH)["Attributes"]
        return sum(map(int, found.values()))

    def _calls(self) -> Calls:
        connection = http.client.HTTPConnection("127.0.0.1", self._api, timeout=5)
        try:
            connection.request("GET", "/stats")
            stats = json.loads(connection.getresponse().read())
        except OSError:  # it has ended, as `ended` will tell, or is too busy to tell
            return self._calls_seen
        finally:
            connection.close()
        self._calls_seen = Calls(
            total=stats["calls"],
            most=stats["max_in_flight"],
            most_per_key=stats["max_in_flight_per_key"],
            statuses=stats["statuses"],
        )
        return self._calls_seen
