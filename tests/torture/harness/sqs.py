"""The embedded SQS of a run: killed, and started again, empty, on the same port."""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from botocore.exceptions import BotoCoreError, ClientError
from waiting import until

from harness.sender import client_of
from harness.settings import QUEUES, SUBMIT
from tasks.devstack import child
from tasks.devstack.sqs import EmbeddedSqs

if TYPE_CHECKING:
    import subprocess
    from pathlib import Path


class Sqs:
    """SQS, with the producers' queues in it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._server = EmbeddedSqs()
        self._server.directory = folder
        self._server.port = child.free_port()
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def port(self) -> int:
        return self._server.port

    @property
    def is_down(self) -> bool:
        return self._process is None or self._process.poll() is not None

    def start(self) -> None:
        """Start it, empty, on the port that it always has."""
        server = self._server
        server.scratch.mkdir(exist_ok=True)
        env = {"PATH": os.environ.get("PATH", os.defpath), "TMPDIR": str(server.scratch), **server._environment()}
        with (self._folder / "sqs.log").open("ab") as log:
            self._process = child.spawn(server._command(), env=env, output=log, cwd=server.scratch)
        until(self._answers, seconds=60, what="the embedded SQS")
        client = client_of(self.port)
        for queue in QUEUES.values():
            # The producers' queue is there before Redrive. Its messages come again soon: a run is short.
            client.create_queue(QueueName=queue, Attributes={"VisibilityTimeout": "6"})
        client.close()

    def kill(self) -> None:
        if self._process:
            child.stop([self._process], grace=0)

    def messages(self) -> int:
        """Count the producers' messages, those in flight and given up, too."""
        client = client_of(self.port)
        try:
            names = (*QUEUES.values(), SUBMIT)
            urls = [url for queue in names for url in client.list_queues(QueueNamePrefix=queue).get("QueueUrls", [])]
            found = [client.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"] for url in urls]
        finally:
            client.close()
        return sum(int(each[name]) for each in found for name in each if name.startswith("ApproximateNumberOfMessages"))

    def _answers(self) -> bool:
        client = client_of(self.port)
        with suppress(BotoCoreError, ClientError):
            client.list_queues()
            return True
        client.close()
        return False
