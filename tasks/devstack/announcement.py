"""Where everything is: told to a person in front of 80 columns, and written down for another terminal."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError
from sqlalchemy.engine import make_url

from tasks.adapters.queues import Connection
from tasks.devstack import examples
from tasks.devstack.sample import EMPLOYEES
from tasks.dlq.calls.url import expand
from tasks.settings.rules import duration
from tasks.settings.sources import SqsSource
from tasks.settings.urls import masked

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tasks.devstack.sqs import EmbeddedSqs
    from tasks.dlq.calls.route import Route
    from tasks.settings import Settings


@dataclass(frozen=True, kw_only=True)
class Announcement:
    """What runs. `env` is the environment of its processes; ports are on loopback; `sqs` and `company` may be elsewhere."""

    state: Path
    settings: Settings
    env: Mapping[str, str]
    flower: int
    sqs: EmbeddedSqs | None
    company: int | None

    @property
    def file(self) -> Path:
        """What another terminal sources."""
        return self.state / "up.env"

    def write(self) -> None:
        """Write the file, for this user's eyes: the environment may hold credentials."""
        lines = [f"export {name}={shlex.quote(value)}\n" for name, value in sorted(self._exported().items())]
        if folder := _commands():
            lines.append(f'export PATH={shlex.quote(str(folder))}:"$PATH"\n')
        self.file.touch(mode=0o600)
        self.file.write_text("".join(lines))

    def text(self) -> str:
        """Return what to tell."""
        return "\n".join(["", "Redrive is up. Ctrl-C stops it.", "", *self._places(), "", *self._examples(), ""])

    def _exported(self) -> dict[str, str]:
        """Return what a terminal needs, wherever it stands: relative paths of ours would mean others there."""
        exported = {name: value for name, value in self.env.items() if name.startswith("REDRIVE_")}
        if file := self.settings.describe()["file"]:
            exported["REDRIVE_CONFIG"] = str(Path(file).absolute())
        ledger = make_url(self.settings.ledger.url)
        if ledger.get_backend_name() == "sqlite" and ledger.database:
            there = ledger.set(database=str(Path(ledger.database).absolute()))
            exported["REDRIVE_LEDGER__URL"] = there.render_as_string(hide_password=False)
        broker = self.settings.broker
        exported["AWS_DEFAULT_REGION"] = broker.region
        if broker.endpoint_url:
            exported["AWS_ENDPOINT_URL_SQS"] = broker.endpoint_url
        if broker.access_key_id and broker.secret_access_key:
            exported |= {"AWS_ACCESS_KEY_ID": broker.access_key_id, "AWS_SECRET_ACCESS_KEY": broker.secret_access_key}
        return exported

    def _places(self) -> Iterator[str]:
        if self.sqs:
            yield f"  SQS      {self.sqs.endpoint} (embedded: its queues live in memory)"
        else:
            yield f"  SQS      {self.settings.broker.endpoint_url or 'AWS, ' + self.settings.broker.region}"
        for name, source in self.settings.sources.items():
            yield f"  source   {name} -> route {source.route or 'by choice'}"
            if isinstance(source, SqsSource):
                yield f"           {self._queue_url(source) or f'{source.queue} (not found)'}"
        yield f"  Flower   http://127.0.0.1:{self.flower}"
        if self.company:
            yield f"  company  http://127.0.0.1:{self.company}/stats (employees 1 to {EMPLOYEES})"
        yield f"  config   {self.settings.source_file}"

    def _examples(self) -> Iterator[str]:
        routes = self.settings.routes
        if not routes:
            yield "No route is configured yet: `redrive up --sample` brings one to try,"
            yield "docs/reference/configuration.md tells the rest."
            return
        yield "From another terminal:"
        yield f"  . {shlex.quote(str(self.file))}"
        yield ""
        source = next((each for each in self.settings.sources.values() if isinstance(each, SqsSource) and each.route), None)
        yield from self._failures(source, routes[source.route] if source and source.route else next(iter(routes.values())))
        yield ""
        yield "And look at what became of it:"
        yield "  redrive jobs"
        yield "  redrive audit"

    def _failures(self, source: SqsSource | None, route: Route) -> Iterator[str]:
        """Yield ways to hand in a failure, each as it can be typed."""
        values = examples.parameters(route)
        if values is None:
            yield f"Hand in a failure, with values of your own; after {duration(route.delay)} it is called:"
            yield f"  redrive send {route.name} {' '.join(f'{name}=VALUE' for name in route.params)}"
            return
        yield f"Hand in a failure, in any of these ways; after {duration(route.delay)} it leads to"
        yield f"{route.method} {masked(expand(route.url, values))}"
        if source and (body := examples.body(source, route, values)) and (queue := self._queue_url(source)):
            yield from self._messages(source.endpoint or self.settings.broker.endpoint_url, queue, body)
        yield "  " + shlex.join(["redrive", "send", route.name, *(f"{name}={value}" for name, value in values.items())])

    def _messages(self, endpoint: str | None, queue: str, body: str) -> Iterator[str]:
        """Yield what sends a message. The endpoint is spelled out: version 1 of the AWS CLI reads no variable for it."""
        where = f"--endpoint-url {endpoint}" if endpoint else f"--region {self.settings.broker.region}"
        yield f"  aws sqs send-message {where} \\"
        yield f"    --queue-url {queue} \\"
        yield f"    --message-body {shlex.quote(body)}"
        client = f'"sqs", endpoint_url="{endpoint}"' if endpoint else f'"sqs", "{self.settings.broker.region}"'
        script = f"import boto3; boto3.client(\n    {client}).send_message(\n"
        script += f'    QueueUrl="{queue}",\n    MessageBody={json.dumps(body)})'
        yield f"  {_python()} -c {shlex.quote(script)}"

    def _queue_url(self, source: SqsSource) -> str | None:
        """Return the queue's URL; None when SQS has no such queue, or does not answer."""
        if "://" in source.queue:
            return source.queue
        broker = self.settings.broker
        own = source.endpoint is None  # the broker's keys are not sent elsewhere
        client = Connection(
            region=broker.region,
            endpoint_url=source.endpoint or broker.endpoint_url,
            access_key_id=broker.access_key_id if own else None,
            secret_access_key=broker.secret_access_key if own else None,
        ).client()
        try:
            return client.get_queue_url(QueueName=source.queue)["QueueUrl"]
        except (ClientError, BotoCoreError):
            return None
        finally:
            client.close()


def _commands() -> Path | None:
    """Return the directory of the `redrive` executable: beside this Python, or wherever the shell has found it."""
    found = shutil.which("redrive", path=os.pathsep.join([sysconfig.get_path("scripts"), os.environ.get("PATH", os.defpath)]))
    return Path(found).parent.absolute() if found else None


def _python() -> str:
    """Return how to start a Python that has boto3, once the file is sourced: this one."""
    folder = _commands()
    return "python3" if folder and (folder / "python3").exists() else shlex.quote(sys.executable)
