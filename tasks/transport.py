"""kombu's SQS transport, with two holes closed that would stop a worker for good.

A poll that fails (SQS away for a moment) reaches kombu 5.7's channel as a list where it expects an object: the error ends the
polling loop, or the worker. And one message that is no Celery message in an unforeseen way ends the worker in the parser. Here
the first counts as an empty poll. The second stays in SQS, comes again, and ends in the dead-letter queue, which is swept.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import structlog
from kombu.transport import SQS, TRANSPORT_ALIASES

log = structlog.get_logger("redrive.transport")


class Channel(SQS.Channel):
    """A channel that outlives a failed poll and a message that nobody can read."""

    def _on_messages_ready(self, queue: str, qname: str, messages: Any) -> int:
        if not isinstance(messages, dict):
            log.warning("SQS did not answer a poll; polling goes on", queue=qname)
            return 0
        return sum(self._deliver_one(queue, qname, message) for message in messages.get("Messages", ()))

    def _deliver_one(self, queue: str, qname: str, message: dict[str, Any]) -> int:
        try:
            return int(super()._on_messages_ready(queue, qname, {"Messages": [message]}))
        except self.connection.connection_errors:
            raise  # the broker's trouble: Celery's consumer starts again
        except Exception as error:  # noqa: BLE001 - whatever a stranger's bytes do to the parser must not end the worker
            log.warning("a message that cannot be read stays in SQS", queue=qname, error=f"{type(error).__name__}: {error}"[:200])
            with suppress(KeyError):  # it holds a place in the prefetch only if it came that far
                self.qos.get(message["ReceiptHandle"])
                self.qos.ack(message["ReceiptHandle"])  # gives the place back; deletes nothing
            return 1


class Transport(SQS.Transport):
    """The transport of `sqs://`."""

    Channel = Channel


def install() -> None:
    """Make it the transport of `sqs://` in this process."""
    TRANSPORT_ALIASES["sqs"] = "tasks.transport:Transport"
