# ruff: noqa: INP001, T201 - a script, and its figures are what it prints
"""How fast dead letters come in from Kafka, and what that takes of memory.

    python bench/intake_kafka.py [--letters 100000] [--keys 1000]

Writes dead letters, each with Spring's headers, into librdkafka's mock cluster in a process of its own; then a child drains
a tenth of them, and another one all of them, into a fresh SQLite ledger (synchronous=FULL, as always). Prints one JSON object
a run, and one that compares them: letters per second of the intake itself, and the most memory that the child ever held (MiB,
from the kernel).
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

CONFIG = """
[ledger]
url = "sqlite:///{folder}/ledger.db"
[routes.employees]
url = "http://127.0.0.1:1/employees/{{employeeId}}"
params.employeeId = "positive-int"
[sources.dlt]
kind = "kafka"
bootstrap = "{bootstrap}"
topics = {topics}
group = "redrive-{size}"
route = "employees"
map.employeeId = "employeeId"
"""
#: The mock gives a topic four partitions, and forgets what is older than the last 5 MiB of each.
PARTITIONS = 4
TOPICS = 10
BODY = '{{"employeeId": {number}, "name": "Employee {number}", "version": 17, "changedAt": "2026-01-01T00:00:00Z"}}'


def headers(number: int) -> list[tuple[str, bytes]]:
    """Return what Spring's DeadLetterPublishingRecoverer writes, its stack trace included."""
    return [
        ("kafka_dlt-original-topic", b"employees"),
        ("kafka_dlt-original-partition", (number % PARTITIONS).to_bytes(4, "big")),
        ("kafka_dlt-original-offset", number.to_bytes(8, "big")),
        ("kafka_dlt-original-timestamp", (1_767_225_600_000 + number).to_bytes(8, "big")),
        ("kafka_dlt-original-timestamp-type", b"CreateTime"),
        ("kafka_dlt-original-consumer-group", b"payroll"),
        ("kafka_dlt-exception-fqcn", b"org.springframework.kafka.listener.ListenerExecutionFailedException"),
        ("kafka_dlt-exception-cause-fqcn", b"jakarta.persistence.OptimisticLockException"),
        ("kafka_dlt-exception-message", b"Listener failed; row was updated by another transaction"),
        ("kafka_dlt-exception-stacktrace", b"\tat com.company.Payroll.handle(Payroll.java:42)\n" * 20),
    ]


def topics_of(size: int) -> list[str]:
    """Return the topics that hold so many letters between them."""
    return [f"employees-{size}-{number}-dlt" for number in range(TOPICS)]


def serve(sizes: list[int], keys: int) -> None:
    """Hold a topic of each size, until standard input ends."""
    from confluent_kafka import Producer  # noqa: PLC0415 - a child without Kafka would not need it

    from tasks.devstack.kafka import EmbeddedKafka  # noqa: PLC0415

    with EmbeddedKafka() as kafka:
        producer = Producer({"bootstrap.servers": kafka.bootstrap, "linger.ms": 20, "batch.size": 65536})
        for size in sizes:
            for number in range(size):
                body = BODY.format(number=number % keys + 1)
                while True:
                    try:
                        topic, partition = topics_of(size)[number % TOPICS], number // TOPICS % PARTITIONS
                        producer.produce(topic, body, partition=partition, headers=headers(number))
                        break
                    except BufferError:
                        producer.poll(0.1)
            assert producer.flush(60) == 0  # noqa: S101
        print(kafka.bootstrap, flush=True)
        sys.stdin.read()


def drain(bootstrap: str, size: int) -> None:
    """Drain a topic into a fresh ledger, and print what it took."""
    from tasks.dlq.ledger.audit import audit  # noqa: PLC0415
    from tasks.runtime import Runtime  # noqa: PLC0415
    from tasks.settings import assemble  # noqa: PLC0415

    class Silent:
        def send(self, job_id: int, *, delay: float) -> None:
            """Wake nobody."""

    with tempfile.TemporaryDirectory() as folder:
        text = CONFIG.format(folder=folder, bootstrap=bootstrap, topics=json.dumps(topics_of(size)), size=size)
        runtime = Runtime(assemble(tomllib.loads(text), {}), Silent())
        runtime.ensure_ledger()
        source, reader = next(each for each in runtime.sources if each[0].name == "dlt")
        first = source.receive(wait=0)  # the group hands out its partitions: that takes seconds, and is not the intake
        source.give_back(first)
        began, cpu = time.monotonic(), time.process_time()
        taken = runtime.intake.drain(source, reader, seconds=float("inf"))
        seconds, cpu = time.monotonic() - began, time.process_time() - cpu
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        with runtime.ledger.begin(read_only=True) as tx:
            found = audit(tx)
        source.close()
        runtime.close()
    print(
        json.dumps(
            {
                "letters": taken.accepted,
                "seconds": round(seconds, 2),
                "cpu_seconds": round(cpu, 2),
                "per_second": round(taken.accepted / seconds),
                "rss_mib": round(memory, 1),
                "balanced": found.balanced and found.accepted == size,
            }
        )
    )


def main() -> None:
    """Run it, or be one of its children."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--letters", type=int, default=100_000)
    parser.add_argument("--keys", type=int, default=1000)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--drain", metavar="BOOTSTRAP", help=argparse.SUPPRESS)
    args = parser.parse_args()
    sizes = [args.letters // 10, args.letters]
    if args.serve:
        serve(sizes, args.keys)
    elif args.drain:
        drain(args.drain, args.letters)
    else:
        compare(sizes, args.keys)


def compare(sizes: list[int], keys: int) -> None:
    """Run a child for each size, and print its figures and how they compare."""
    me = [sys.executable, __file__, "--keys", str(keys)]
    with subprocess.Popen([*me, "--serve", "--letters", str(sizes[-1])], stdin=-1, stdout=-1, text=True) as server:  # noqa: S603
        bootstrap = server.stdout.readline().strip() if server.stdout else ""
        runs = []
        for size in sizes:
            command = [*me, "--drain", bootstrap, "--letters", str(size)]
            out = subprocess.run(command, stdout=-1, text=True, check=True).stdout  # noqa: S603
            runs.append(json.loads(out.splitlines()[-1]))
            print(json.dumps(runs[-1]), flush=True)
        server.communicate()
    ratio = round(runs[1]["rss_mib"] / runs[0]["rss_mib"], 3)
    print(json.dumps({"rss_ratio": ratio, "per_second": runs[1]["per_second"], "rss_mib": runs[1]["rss_mib"]}))


if __name__ == "__main__":
    main()
