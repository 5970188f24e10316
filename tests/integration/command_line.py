"""The real `redrive` command in a process and a folder of its own, over a real SQLite ledger."""

from __future__ import annotations

import codecs
import fcntl
import json
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import boto3
from redrive_command import Done, run_command, run_here
from sqlalchemy import update
from waiting import TEST_TIMEOUT, until

from tasks.dlq.dead_letter import DeadLetter, Rejection
from tasks.dlq.errors import Refused
from tasks.dlq.key import make_key
from tasks.dlq.ledger import Ledger, dead_letters, migrations
from tasks.dlq.ledger.schema import jobs

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mypy_boto3_sqs import SQSClient

    from tasks.devstack.sqs import EmbeddedSqs

CONFIG = """
[broker]
url = "sqs://local:only-here@127.0.0.1:{port}"
queue_prefix = "{prefix}"
[routes.employees]
url = "https://company.com/employees/{{employeeId}}"
params.employeeId = "positive-int"
delay = "30s"
[routes.teams]
url = "https://company.com/teams/{{name}}"
params.name = "string"
"""
#: Nothing listens on this port: SQS is away.
AWAY = 1


@dataclass
class CommandLine:
    """A folder with a redrive.toml."""

    folder: Path
    prefix: str
    env: dict[str, str]

    def run(self, *arguments: str, stdin: bytes = b"", refused: bool = False, **env: str) -> Done:
        """Run `redrive` to its end. A command that will be `refused` meets no Celery."""
        if refused:
            return run_here(*arguments, folder=self.folder, env=self.env | env)
        return run_command(*arguments, folder=self.folder, env=self.env | env, stdin=stdin)

    def json(self, *arguments: str, code: int = 0, **more: Any) -> list[dict[str, Any]]:
        """Run `redrive … --json`; return the objects that it printed."""
        done = self.run(*arguments, "--json", **more)
        assert done.returncode == code, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    def error(self, *arguments: str, code: int, **more: Any) -> dict[str, Any]:
        """Run `redrive … --json`, which fails; return the one object on stderr."""
        done = self.run(*arguments, "--json", refused=code == Refused.exit_code, **more)
        assert (done.returncode, done.stdout) == (code, ""), done.stderr
        (line,) = done.stderr.splitlines()
        error = json.loads(line)
        assert error["exit_code"] == code
        return error

    @contextmanager
    def ledger(self) -> Iterator[Ledger]:
        """The ledger of this folder, made when it is missing."""
        ledger = Ledger(f"sqlite:///{self.folder}/.redrive/ledger.db")
        migrations.upgrade(ledger)
        try:
            yield ledger
        finally:
            ledger.close()

    def arrange(self, identity: str, *, route: str = "employees", employee: int = 1, **values: Any) -> int:
        """Record a dead letter about an employee, give its job these values, and return its id."""
        key = make_key({"employeeId": str(employee)})
        letter = DeadLetter(source="employees_dlq", identity=identity, body=b'{"employeeId": 1}', route=route, keys=[key])
        with self.ledger() as ledger, ledger.begin() as tx:
            dead_letters.record_dead_letters(tx, [letter], delays={route: 30.0})
            job_id = tx.connection.scalars(jobs.select().where(jobs.c.route == route, jobs.c.key == key)).one()
            if values:
                tx.connection.execute(update(jobs).where(jobs.c.id == job_id).values(**values))
        return job_id

    def reject(self, identity: str, body: bytes, reason: str, detail: str) -> None:
        """Record a dead letter that could not be read."""
        rejection = Rejection(reason=reason, detail=detail)
        letter = DeadLetter(source="employees_dlq", identity=identity, body=body, rejection=rejection)
        with self.ledger() as ledger, ledger.begin() as tx:
            dead_letters.record_dead_letters(tx, [letter], delays={})

    @contextmanager
    def terminal(self, *arguments: str, columns: int = 80) -> Iterator[Terminal]:
        """Run `redrive` on a terminal."""
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
        env = {name: value for name, value in self.env.items() if name not in {"COLUMNS", "NO_COLOR", "CI"}}
        process = subprocess.Popen(
            [sys.executable, "-m", "tasks.cli", *arguments],
            env=env | {"TERM": "xterm-256color"},
            cwd=self.folder,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            start_new_session=True,
        )
        os.close(theirs)
        try:
            yield Terminal(process, ours)
        finally:
            process.kill()
            process.wait()
            os.close(ours)


@dataclass
class Terminal:
    """What is on the other side of a pseudo-terminal."""

    process: subprocess.Popen[bytes]
    handle: int
    seen: str = ""
    #: Keeps a character of which only the first bytes have come.
    decoder: codecs.IncrementalDecoder = field(default_factory=codecs.getincrementaldecoder("utf-8"))

    @property
    def lines(self) -> list[str]:
        """What is on the screen, without colours."""
        return re.sub(r"\x1b\[[0-9;]*m", "", self.seen).splitlines()

    def wait_for(self, text: str) -> None:
        """Read until `text` is on the screen."""

        def look() -> bool:
            self.seen += self.decoder.decode(os.read(self.handle, 4096))
            return text in self.seen

        until(look, what=f"{text!r} in {self.seen!r}")

    def type(self, text: str) -> None:
        """Type, with a line end."""
        os.write(self.handle, f"{text}\n".encode())

    def end(self) -> int:
        """Read to the end and return the exit code."""
        try:
            while select.select([self.handle], [], [], 60)[0] and (more := os.read(self.handle, 4096)):
                self.seen += self.decoder.decode(more)
        except OSError:  # Linux' way to say that the other side is closed
            pass
        return self.process.wait(TEST_TIMEOUT)


def command_line(folder: Path, *, port: int = AWAY, more: str = "") -> CommandLine:
    """Prepare a folder; without a port, SQS is away."""
    prefix = f"{folder.name[-30:]}-".replace("_", "-").replace("[", "").replace("]", "")
    (folder / "redrive.toml").write_text(CONFIG.format(port=port, prefix=prefix) + more)
    clean = ("PYTHONUNBUFFERED", "REDRIVE_", "CELERY_", "SENTRY_", "FORCE_COLOR", "COLUMNS")
    env = {name: value for name, value in os.environ.items() if not name.startswith(clean)}
    return CommandLine(folder=folder, prefix=prefix, env=env)


def client_of(sqs: EmbeddedSqs) -> SQSClient:
    """A client for the embedded SQS."""
    return boto3.client(
        "sqs", endpoint_url=sqs.endpoint, region_name=sqs.region, aws_access_key_id="local", aws_secret_access_key="only-here"
    )


def depth(cli: CommandLine, sqs: EmbeddedSqs, queue: str, *, prefixed: bool = True) -> int:
    """Count a queue's messages, in flight and delayed ones too."""
    client = client_of(sqs)
    url = client.get_queue_url(QueueName=(cli.prefix if prefixed else "") + queue)["QueueUrl"]
    attributes = client.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
    client.close()
    return sum(int(value) for name, value in attributes.items() if name.startswith("ApproximateNumberOfMessages"))
