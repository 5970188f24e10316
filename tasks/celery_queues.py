"""The queues of Redrive's Celery application on SQS: their names, their creation, and their dead letters as sources."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from tasks.adapters.celery_messages import CeleryDeadLetters
from tasks.adapters.sqs import Connection, SqsQueue, SqsSource, count_messages
from tasks.adapters.sqs.client import translate_errors
from tasks.adapters.sqs.queues import ensure_queue
from tasks.dlq.errors import BrokerUnavailable
from tasks.names import CELERY_QUEUES, CELERY_SOURCE, DLQ_SUFFIX, RECOVERY_QUEUE, WAKEUPS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mypy_boto3_sqs import SQSClient

    from tasks.dlq.ports import Source
    from tasks.settings import Settings
    from tasks.settings.sections import Broker


def connect_broker(broker: Broker) -> Connection:
    """Return the connection to the broker."""
    return Connection(
        region=broker.region,
        endpoint_url=broker.endpoint_url,
        access_key_id=broker.access_key_id,
        secret_access_key=broker.secret_access_key,
    )


def locate_queue(broker: Broker, name: str) -> str | None:
    """Return the name of one of Redrive's queues in SQS. If queues are predefined: its URL, or None if it is not among them."""
    return broker.predefined_queues.get(name) if broker.predefined_queues else broker.queue_prefix + name


class CeleryQueues:
    """The queues of one configuration, and a client for them."""

    def __init__(self, settings: Settings) -> None:
        self._broker = settings.broker
        self._visibility_timeout = settings.visibility_timeout

    @cached_property
    def client(self) -> SQSClient:
        """The client of the broker's SQS."""
        return connect_broker(self._broker).client()

    def ensure(self) -> None:
        """Create the queues that are missing, unless other tools manage queues. Raises BrokerUnavailable."""
        if not self._broker.creates_queues:
            return
        for name in CELERY_QUEUES:
            queue, hidden = self._broker.queue_prefix + name, self._visibility_timeout
            with translate_errors(queue):
                ensure_queue(
                    self.client,
                    queue,
                    visibility_timeout=hidden,
                    max_receives=self._broker.max_receives,
                    least_visibility=hidden,
                )

    def count_wakeups(self) -> int:
        """Return about how many wake-ups are queued. Raises BrokerUnavailable."""
        queue = locate_queue(self._broker, RECOVERY_QUEUE)
        if queue is None:
            raise BrokerUnavailable(f"{RECOVERY_QUEUE} is not among the predefined queues", hint="add it")
        return count_messages(self.client, queue)

    def open_dead_letters(self) -> Iterator[Source]:
        """Yield the dead-letter queues, as sources of what Celery producers have sent."""
        for queue in CELERY_QUEUES:
            if name := locate_queue(self._broker, queue + DLQ_SUFFIX):
                yield CeleryDeadLetters(SqsSource(SqsQueue(source=CELERY_SOURCE, queue=name), self.client), WAKEUPS)
