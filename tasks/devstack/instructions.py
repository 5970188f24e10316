"""The text that `redrive up` prints when everything runs: addresses, and commands to try."""

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tasks.devstack.sample import EMPLOYEES, QUEUE
from tasks.settings.queues import SqsTable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tasks.devstack.sqs import EmbeddedSqs
    from tasks.settings import Settings


@dataclass(frozen=True, kw_only=True)
class Instructions:
    """What the text is made from.

    Attributes:
        settings: the configuration; it has at least one route.
        env_file: the file that sets up another terminal.
        flower_port: the port of Flower on 127.0.0.1.
        company_port: the port of the sample company's API; None without `--sample`.
        sqs: the embedded SQS; None if the configuration names another.
    """

    settings: Settings
    env_file: Path
    flower_port: int
    company_port: int | None
    sqs: EmbeddedSqs | None

    def format(self) -> str:
        """Return the text. It fits into 80 columns, except for long paths and URLs."""
        lines = [
            "Redrive is up. Ctrl-C stops it.",
            "",
            *self._list_addresses(),
            "",
            "In another terminal, first run:",
            f"  . {shlex.quote(str(self.env_file))}",
            "",
            *(self._list_sample_commands(self.company_port) if self.company_port else self._list_own_commands()),
            "",
            "Then see what becomes of it:",
            "  redrive jobs",
            "  redrive stats",
            "  redrive doctor",
            "  redrive audit",
        ]
        return "\n".join(["", *lines, ""])

    def _list_addresses(self) -> Iterator[str]:
        broker = self.settings.broker
        if self.sqs:
            yield f"  SQS      {self.sqs.endpoint} (embedded, in memory)"
        else:
            yield f"  SQS      {broker.endpoint_url or f'AWS, {broker.region}'}"
        queues = self.settings.sources_of(SqsTable)
        for name, source in self.settings.sources.items():
            yield f"  source   {name} -> {f'route {source.route}' if source.route else 'a route by rule'}"
            if name in queues:
                yield f"           {self._locate_queue(queues[name])}"
        yield f"  Flower   http://127.0.0.1:{self.flower_port}"
        if self.company_port:
            yield f"  company  http://127.0.0.1:{self.company_port}/stats (employees 1 to {EMPLOYEES})"
        yield f"  config   {self.settings.source_file}"

    def _locate_queue(self, source: SqsTable) -> str:
        is_url = "://" in source.queue
        return source.queue if is_url or source.endpoint or not self.sqs else self.sqs.make_queue_url(source.queue)

    def _list_sample_commands(self, company_port: int) -> Iterator[str]:
        yield "Send a failure in one of these ways. After 5 seconds Redrive calls"
        yield f"PUT http://127.0.0.1:{company_port}/employees/7"
        if self.sqs:
            queue_url, body = self.sqs.make_queue_url(QUEUE), json.dumps({"employeeId": 7})
            # Version 1 of the AWS CLI does not read AWS_ENDPOINT_URL_SQS.
            yield f"  aws sqs send-message --endpoint-url {self.sqs.endpoint} \\"
            yield f"    --queue-url {queue_url} \\"
            yield f"    --message-body '{body}'"
            yield f"  {shlex.quote(sys.executable)} -c 'import boto3; boto3.client("
            yield f'    "sqs", endpoint_url="{self.sqs.endpoint}").send_message('
            yield f'    QueueUrl="{queue_url}",'
            yield f"    MessageBody={json.dumps(body)})'"
        yield "  redrive send employees employeeId=7"

    def _list_own_commands(self) -> Iterator[str]:
        yield "Send a failure, with values of your own:"
        for route in self.settings.routes.values():
            yield " ".join(["  redrive send", route.name, *(f"{name}=VALUE" for name in route.params)])
