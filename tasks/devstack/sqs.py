"""Embedded SQS: ministack in a child process, on loopback only. Its queues are in memory."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, ClassVar

from tasks.devstack.readiness import answers_ok
from tasks.devstack.server import EmbeddedServer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


class EmbeddedSqs(EmbeddedServer):
    """SQS that accepts any credentials."""

    name = "sqs"
    region: ClassVar[str] = "us-east-1"

    @property
    def endpoint(self) -> str:
        """The value for boto3's `endpoint_url`."""
        return f"http://127.0.0.1:{self.port}"

    def make_queue_url(self, queue: str) -> str:
        """Return the URL that ministack gives to a queue of this name."""
        return f"{self.endpoint}/000000000000/{queue}"

    def _command(self) -> Sequence[str]:
        return [sys.executable, "-m", "ministack"]

    def _environment(self) -> Mapping[str, str]:
        return {
            "BIND_HOST": "127.0.0.1",
            "MINISTACK_HOST": "127.0.0.1",  # the host in queue URLs
            "GATEWAY_PORT": str(self.port),
            "SERVICES": "sqs",
            "IOT_MTLS_ENABLED": "0",  # otherwise it listens on 0.0.0.0:8883 as well
            "SFTP_ENABLED": "0",
            "DOCKER_HOST": f"unix://{self.scratch}/none",  # otherwise it watches the containers of a Docker daemon
        }

    def _answers(self) -> bool:
        return answers_ok(self.port, "/_ministack/ready")
