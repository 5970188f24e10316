"""SQS on this machine: ministack in a child process, on loopback only. Its queues live in memory and end with it."""

from __future__ import annotations

import http.client
import sys
from typing import TYPE_CHECKING, ClassVar

from tasks.devstack.server import EmbeddedServer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class EmbeddedSqs(EmbeddedServer):
    """A context manager; `endpoint` is what boto3 takes as `endpoint_url`. Any credentials are good."""

    name = "sqs"
    region: ClassVar[str] = "us-east-1"

    @property
    def endpoint(self) -> str:
        """The endpoint's URL."""
        return f"http://127.0.0.1:{self.port}"

    def _command(self) -> Sequence[str]:
        return [sys.executable, "-m", "ministack"]

    def _environment(self) -> Mapping[str, str]:
        return {
            "BIND_HOST": "127.0.0.1",
            "MINISTACK_HOST": "127.0.0.1",  # what queue URLs begin with
            "GATEWAY_PORT": str(self.port),
            "SERVICES": "sqs",
            "IOT_MTLS_ENABLED": "0",  # else it listens on 0.0.0.0:8883 as well
            "SFTP_ENABLED": "0",
            "DOCKER_HOST": f"unix://{self.scratch}/none",  # else it looks after the containers of a Docker daemon
        }

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=1)
        try:
            connection.request("GET", "/_ministack/ready")
            return connection.getresponse().status == http.HTTPStatus.OK
        finally:
            connection.close()
