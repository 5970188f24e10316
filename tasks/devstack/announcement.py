"""Where everything is: told to a person in front of 80 columns, and written down for another terminal."""

from __future__ import annotations

import os
import shlex
from dataclasses import dataclass
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError

from tasks.adapters.queues import Connection
from tasks.devstack import sample

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from tasks.devstack.sqs import EmbeddedSqs
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
        exported = {name: value for name, value in self.env.items() if name.startswith("REDRIVE_")}
        if self.sqs:
            exported |= {"AWS_ENDPOINT_URL_SQS": self.sqs.endpoint, "AWS_DEFAULT_REGION": self.settings.broker.region}
            exported |= {"AWS_ACCESS_KEY_ID": "embedded", "AWS_SECRET_ACCESS_KEY": "embedded"}
        self.file.touch(mode=0o600)
        self.file.write_text("".join(f"export {name}={shlex.quote(value)}\n" for name, value in sorted(exported.items())))

    def text(self) -> str:
        """Return what to tell."""
        return "\n".join(["", "Redrive is up. Ctrl-C stops it.", "", *self._places(), "", *self._examples(), ""])

    def _places(self) -> Iterator[str]:
        if self.sqs:
            yield f"  SQS      {self.sqs.endpoint} (embedded: its queues live in memory)"
        else:
            yield f"  SQS      {self.settings.broker.endpoint_url or 'AWS, ' + self.settings.broker.region}"
        for name, source in self.settings.sources.items():
            yield f"  source   {name} -> route {source.route}"
            yield f"           {self._queue_url(source.queue, source.endpoint)}"
        yield f"  Flower   http://127.0.0.1:{self.flower}"
        if self.company:
            yield f"  company  http://127.0.0.1:{self.company}/stats"
        yield f"  config   {self.settings.source_file}"

    def _examples(self) -> Iterator[str]:
        if not self.settings.routes:
            yield "No route is configured yet: `redrive up --sample` brings one to try,"
            yield "docs/configuration.md tells the rest."
            return
        yield "From another terminal:"
        yield f"  . {shlex.quote(os.path.relpath(self.file))}"
        tried = self.settings.sources.get(sample.SOURCE)
        if self.company and tried and tried.queue == sample.QUEUE:
            yield "  aws sqs send-message --message-body '{\"employeeId\": 7}' \\"
            yield f"    --queue-url {self._queue_url(tried.queue, tried.endpoint)}"
            yield f"  redrive send {sample.ROUTE} employeeId=8"
        yield "  redrive jobs"
        yield "  redrive audit"

    def _queue_url(self, queue: str, endpoint: str | None) -> str:
        if "://" in queue:
            return queue
        broker = self.settings.broker
        connection = Connection(
            region=broker.region,
            endpoint_url=endpoint or broker.endpoint_url,
            access_key_id=broker.access_key_id,
            secret_access_key=broker.secret_access_key,
        )
        client = connection.client()
        try:
            return client.get_queue_url(QueueName=queue)["QueueUrl"]
        except (ClientError, BotoCoreError) as error:
            return f"{queue} (not found: {error})"
        finally:
            client.close()
