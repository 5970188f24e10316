"""The ledger is lost: what its sources bring again, and an export from before the loss with what came since.

The runbook is in docs/howto/backup.md ("Restore").
"""

from __future__ import annotations

import io
import tomllib
from typing import TYPE_CHECKING, Any

import pytest
from command_line import command_line
from kafka_world import PARTITIONS, World, employee
from ledger_bench import WakeupRecorder, count_unsettled
from sources_harness import client_of
from sqlalchemy import select, update
from waiting import until

from tasks.adapters.jsonl import JsonlSource
from tasks.adapters.sqs.queues import ensure_queue
from tasks.dlq.ledger import operations
from tasks.dlq.ledger.audit import audit
from tasks.dlq.ledger.dead_letters import Recorded
from tasks.dlq.ledger.queries import list_jobs
from tasks.dlq.ledger.schema import routes
from tasks.names import SENT_SOURCE
from tasks.runtime import Runtime
from tasks.settings import assemble

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from command_line import CommandLine
    from doubles.company_api import CompanyApi

    from tasks.devstack.kafka import EmbeddedKafka
    from tasks.devstack.sqs import EmbeddedSqs

CONFIG = """
[broker]
url = "sqs://local:only-here@127.0.0.1:{sqs}"
[ledger]
url = "sqlite:///{folder}/ledger.db"
[routes.employees]
url = "{api}/employees/{{employeeId}}"
params.employeeId = "positive-int"
delay = "0s"
deadline = "5s"
drain = "0s"
[sources.dlt]
kind = "kafka"
bootstrap = "{kafka}"
topics = ["{topic}"]
group = "{group}"
route = "employees"
map.employeeId = "employeeId"
properties = {{ session_timeout_ms = 6000 }}
[sources.employees_dlq]
kind = "sqs"
queue = "{topic}-queue"
route = "employees"
map.employeeId = "employeeId"
"""


class Service:
    """Redrive from its sources to its calls, on the ledger that its configuration names, in this process."""

    def __init__(self, cli: CommandLine) -> None:
        self.cli = cli
        self.sender = WakeupRecorder()
        self.runtime = self._runtime()

    def _runtime(self) -> Runtime:
        file = self.cli.folder / "redrive.toml"
        made = Runtime(assemble(tomllib.loads(file.read_text()), {}, file=str(file)), self.sender)
        made.ensure_ledger()
        return made

    def take_in(self, name: str, number: int) -> tuple[int, int]:
        """Drain one of the sources until so many letters have come; return how many were new, and how many known."""
        source, reader = self.source(name)
        total = Recorded()

        def look() -> bool:
            nonlocal total
            total += self.runtime.intake.drain(source, reader, seconds=0.0, wait=1.0)
            return total.accepted + total.known >= number

        until(look, what=f"{number} letters of {name}")
        return total.accepted, total.known

    def send(self, lines: Sequence[bytes]) -> tuple[int, int]:
        """Send a file of these lines, as `redrive send --file` does; return how many were new, and how many known."""
        file = io.BytesIO(b"".join(line + b"\n" for line in lines))
        source = JsonlSource(SENT_SOURCE, file, route="employees", origin={"file": "failed.jsonl"})
        total = self.runtime.intake.drain(source, self.runtime.readers[SENT_SOURCE], seconds=60.0)
        source.close()
        return total.accepted, total.known

    def source(self, name: str) -> Any:
        return next(each for each in self.runtime.sources if each[0].name == name)

    def work(self) -> None:
        """Answer each wake-up, and sweep, until there is nothing left to do."""
        while self._unsettled():
            self.runtime.maintenance.promote()
            while self.sender.sent:
                self.runtime.recovery.run_slice(self.sender.sent.pop(0)[0])

    def _unsettled(self) -> int:
        with self.runtime.ledger.begin(read_only=True) as tx:
            return count_unsettled(tx)

    def stop(self) -> None:
        self.runtime.close()
        self.sender.sent.clear()

    def lose_the_ledger(self) -> None:
        """Stop every process, and delete the ledger's files."""
        self.stop()
        for file in self.cli.folder.glob("ledger.db*"):
            file.unlink()

    def start(self) -> None:
        """Start again, on whatever ledger there is."""
        self.runtime = self._runtime()

    def pass_hold(self) -> None:
        """Let the time be over for which an import lets no route call."""
        with self.runtime.ledger.begin() as tx:
            assert tx.connection.scalar(select(routes.c.not_before)) > 0  # on a slow machine it may just be over
            tx.connection.execute(update(routes).values(not_before=0))

    def sums(self) -> dict[str, int]:
        """Return the audit's sums that are not zero; assert that they balance."""
        with self.runtime.ledger.begin(read_only=True) as tx:
            found = audit(tx)
        assert found.balanced, found.as_dict()
        names = ("accepted", "recovered", "pending", "parked", "discarded", "rejected")
        return {name: getattr(found, name) for name in names if getattr(found, name)}


@pytest.fixture
def world(kafka: EmbeddedKafka, tmp_path: Path) -> Iterator[World]:
    made = World(kafka.bootstrap, tmp_path)
    kafka.make(made.topic)
    yield made
    made.close()


@pytest.fixture
def configure(world: World, company_api: CompanyApi, sqs: EmbeddedSqs, tmp_path: Path) -> Callable[..., None]:
    """Write the folder's redrive.toml, for this group."""

    def write(group: str) -> None:
        text = CONFIG.format(
            sqs=sqs.port, folder=tmp_path, api=company_api.url, kafka=world.bootstrap, topic=world.topic, group=group
        )
        (tmp_path / "redrive.toml").write_text(text)

    return write


@pytest.fixture
def service(world: World, configure: Callable[..., None], tmp_path: Path) -> Iterator[Service]:
    cli = command_line(tmp_path)
    configure(world.group)
    made = Service(cli)
    yield made
    made.stop()


def paths(*numbers: int) -> set[str]:
    return {f"/employees/{number}" for number in numbers}


def fences(api: CompanyApi) -> list[int]:
    return [int(call.headers["Redrive-Fence"]) for call in api.calls]


# --- Kafka -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["the group's offsets are reset", "a new group"])
def test_a_rewound_topic_brings_everything_again(
    how: str, service: Service, world: World, company_api: CompanyApi, configure: Callable[..., None]
):
    world.write_employees(40)
    assert service.take_in("dlt", 40) == (40, 0)
    service.work()
    assert service.sums() == {"accepted": 40, "recovered": 40}
    before = fences(company_api)
    company_api.calls.clear()

    service.lose_the_ledger()
    if how == "a new group":
        configure(f"{world.group}-2")
    else:
        world.rewind(dict.fromkeys(range(PARTITIONS), 0))
    service.start()

    assert service.take_in("dlt", 40) == (40, 0)
    service.work()
    assert service.sums() == {"accepted": 40, "recovered": 40}
    assert set(company_api.paths()) == paths(*range(1, 41)), "every entity is brought up to date once more"
    assert company_api.most_per_path.most_common(1)[0][1] == 1
    assert min(fences(company_api)) > max(before), "an API that refuses older fences takes them"


def test_an_export_is_restored_and_the_topic_brings_what_came_since(service: Service, world: World, company_api: CompanyApi):
    world.write_employees(20)
    service.take_in("dlt", 20)
    company_api.answers.extend([(404, {})] * 2)
    service.work()
    with service.runtime.ledger.begin() as tx:
        parked = list_jobs(tx, states=["parked"])[0]
        assert operations.discard(tx, parked["id"], state=parked["state"], last_seq=parked["needs"])
    for number in range(21, 31):
        world.write(employee(number), partition=number % PARTITIONS)
    world.flush()
    service.take_in("dlt", 10)
    at_export = service.sums()
    assert at_export == {"accepted": 30, "recovered": 18, "pending": 10, "parked": 1, "discarded": 1}

    service.cli.json("export", "hourly.jsonl.gz", refused=True)  # in the middle of its work

    service.work()
    for number in range(31, 41):
        world.write(employee(number), partition=number % PARTITIONS)
    world.flush()
    service.take_in("dlt", 10)
    service.work()
    before = fences(company_api)
    company_api.calls.clear()

    service.lose_the_ledger()
    (told,) = service.cli.json("import", "hourly.jsonl.gz", refused=True)
    assert told["audit"]["balanced"]
    world.rewind(dict.fromkeys(range(PARTITIONS), 0))
    service.start()
    assert service.sums() == at_export

    assert service.take_in("dlt", 40) == (10, 30), "what the export has is not doubled, and what came after it is taken in"
    assert company_api.paths() == []
    service.pass_hold()
    service.work()
    assert service.sums() == {"accepted": 40, "recovered": 38, "parked": 1, "discarded": 1}
    assert sorted(company_api.paths()) == sorted(paths(*range(21, 41))), "what was over at the export is not called again"
    assert min(fences(company_api)) > max(before)


# --- files -------------------------------------------------------------------------------------------------------------


def test_a_file_that_is_sent_again_is_taken_in_by_the_new_ledger(service: Service, company_api: CompanyApi):
    lines = [employee(number) for number in range(1, 21)]
    for _ in range(2):
        assert service.send(lines) == (20, 0)
        service.work()
        assert service.sums() == {"accepted": 20, "recovered": 20}
        assert set(company_api.paths()) == paths(*range(1, 21))
        company_api.calls.clear()
        service.lose_the_ledger()
        service.start()


def test_a_file_that_is_sent_again_over_an_export_adds_only_what_that_does_not_have(service: Service):
    service.send([employee(1), employee(2)])
    service.cli.json("export", "hourly.jsonl", refused=True)
    service.send([employee(3)])

    service.lose_the_ledger()
    service.cli.json("import", "hourly.jsonl", refused=True)
    service.start()
    assert service.send([employee(1), employee(2)]) == (0, 2)
    assert service.send([employee(3)]) == (1, 0)
    assert service.sums() == {"accepted": 3, "pending": 3}


# --- SQS ---------------------------------------------------------------------------------------------------------------


def test_what_was_not_acknowledged_at_the_loss_is_taken_in(
    service: Service, world: World, sqs: EmbeddedSqs, company_api: CompanyApi
):
    """Two letters are in the export; of those after it one is acknowledged, two are not, one is in the dead-letter queue."""
    client = client_of(sqs.port)
    queue = ensure_queue(client, f"{world.topic}-queue", visibility_timeout=600, max_receives=5)
    dead = client.get_queue_url(QueueName=f"{world.topic}-queue-dead")["QueueUrl"]

    def send(url: str, *numbers: int) -> None:
        for number in numbers:
            client.send_message(QueueUrl=url, MessageBody=employee(number).decode())

    send(queue, 1, 2)
    assert service.take_in("employees_dlq", 2) == (2, 0)
    service.cli.json("export", "hourly.jsonl", refused=True)
    send(queue, 3)
    assert service.take_in("employees_dlq", 1) == (1, 0)
    send(queue, 4, 5)
    source, reader = service.source("employees_dlq")
    held = receive(source, 2)
    service.runtime.intake.take("employees_dlq", reader, held)  # recorded, and the process ends before it acknowledges
    send(dead, 6)
    assert service.sums() == {"accepted": 5, "pending": 5}

    service.lose_the_ledger()
    source.give_back(held)  # their visibility timeout is over
    service.cli.json("import", "hourly.jsonl", refused=True)
    service.start()
    assert service.take_in("employees_dlq", 3) == (3, 0)

    send(queue, 3)  # by the consumer's own records
    assert service.take_in("employees_dlq", 1) == (1, 0)
    service.pass_hold()
    service.work()
    client.close()
    assert service.sums() == {"accepted": 6, "recovered": 6}
    assert sorted(company_api.paths()) == sorted(paths(*range(1, 7)))


def receive(source: Any, number: int) -> Sequence[Any]:
    records: list[Any] = []
    while len(records) < number:
        records += source.receive(wait=1)
    return records
