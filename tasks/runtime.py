"""The composition root: one per process, everything made on first use."""

from __future__ import annotations

import os
import socket
from functools import cached_property
from importlib.metadata import version
from typing import TYPE_CHECKING

import structlog

from tasks.adapters import logs, sentry
from tasks.adapters.celery_messages import CeleryDeadLetters, MessageReader
from tasks.adapters.http import RequestsSyncApi
from tasks.adapters.jsonl import LineReader
from tasks.adapters.kafka import KafkaSource
from tasks.adapters.kafka.lag import Lag, lags
from tasks.adapters.notify import apprise_sinks
from tasks.adapters.queues import Connection, ensure_queue
from tasks.adapters.sqs import SqsSource, count_messages, talking_to
from tasks.dlq.alerts.delivery import Notifier
from tasks.dlq.errors import BrokerUnavailable
from tasks.dlq.ledger import Ledger, migrations
from tasks.dlq.ledger.routes import ensure_routes
from tasks.dlq.reading.reader import SubmissionReader
from tasks.dlq.services.intake import Intake
from tasks.dlq.services.maintenance import Maintenance
from tasks.dlq.services.recovery import Recovery
from tasks.dlq.services.repair import SubmittedReader
from tasks.ledger_setup import create_ledger
from tasks.names import CELERY_QUEUES, CELERY_SOURCE, DLQ_SUFFIX, RECOVERY_QUEUE, SENT_SOURCE, WAKEUPS
from tasks.settings.queues import other_readers
from tasks.settings.sources import SqsSource as SqsSourceTable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from mypy_boto3_sqs import SQSClient

    from tasks.adapters.sentry import SentrySink
    from tasks.dlq.alerts.alert import AlertSink
    from tasks.dlq.ports import Source, WakeupSender
    from tasks.dlq.reading.reader import Reader
    from tasks.settings import Settings

log = structlog.get_logger("redrive.runtime")


class Runtime:
    """What a process of Redrive is made of."""

    def __init__(self, settings: Settings, sender: WakeupSender, *, stopping: Callable[[], bool] = lambda: False) -> None:
        self.settings = settings
        self._sender = sender
        self._stopping = stopping

    @cached_property
    def ledger(self) -> Ledger:
        """The ledger, checked: its schema is the one that this version writes.

        Raises:
            LedgerOutdated: `redrive db upgrade` is due.
            LedgerUnavailable: the database does not answer.
        """
        ledger = Ledger(self.settings.ledger.url)
        migrations.check(ledger)
        ledger.transact(lambda tx: ensure_routes(tx, self.settings.routes))
        return ledger

    @cached_property
    def intake(self) -> Intake:
        """The intake service."""
        return Intake(self.ledger, self.settings.routes, self._sender)

    @cached_property
    def recovery(self) -> Recovery:
        """The recovery service. Raises ConfigError when a route's token is missing."""
        return Recovery(
            self.ledger,
            self.settings.routes,
            self.api,
            self._sender,
            slice_seconds=self.settings.worker.slice,
            worker=f"{socket.gethostname()}:{os.getpid()}",
            stopping=self._stopping,
        )

    @cached_property
    def api(self) -> RequestsSyncApi:
        """The routes' APIs over HTTP. Raises ConfigError when a route's token is missing."""
        return RequestsSyncApi(self.settings.tokens(), ca_bundle=self.settings.worker.ca_bundle)

    @cached_property
    def maintenance(self) -> Maintenance:
        """The sweeps."""
        return Maintenance(self.ledger, self.settings.routes, self._sender, count_queued=self._count_queued_wakeups)

    @cached_property
    def submissions(self) -> SubmissionReader:
        """Reads what names its own route."""
        return SubmissionReader(routes=self.settings.routes)

    @cached_property
    def messages(self) -> MessageReader:
        """Reads Celery messages that no task has read."""
        return MessageReader(self.submissions, WAKEUPS)

    @cached_property
    def readers(self) -> Mapping[str, Reader]:
        """What reads the records of each source, and reads the rejected ones again."""
        own: dict[str, Reader] = {
            CELERY_SOURCE: SubmittedReader(self.submissions, self.messages),
            SENT_SOURCE: LineReader(self.submissions),
        }
        return own | {name: table.reader(self.settings.routes) for name, table in self.settings.sources.items()}

    @cached_property
    def notifier(self) -> Notifier:
        """Delivers alerts in the background."""
        return Notifier(self.ledger, self._sinks)

    @cached_property
    def _sinks(self) -> Sequence[AlertSink]:
        services = apprise_sinks(self.settings.notify_urls(), origin=self.settings.alerts.notify_env)
        return [logs.LogSink(), *([self.sentry] if self.sentry else []), *services]

    @cached_property
    def sentry(self) -> SentrySink | None:
        """Sentry in this process, started on first use; None without a DSN in the environment."""
        dsn = self.settings.sentry_dsn()
        environment = self.settings.alerts.sentry_environment
        return sentry.init(dsn, environment=environment, release=f"redrive@{version('redrive')}") if dsn else None

    def start_sentry(self) -> None:
        """Have unhandled errors of this process reported, when there is a DSN."""
        if self.sentry is None:
            log.debug("Sentry is off: no DSN in the environment")

    @property
    def sources(self) -> Sequence[tuple[Source, Reader]]:
        """Every source with its reader, as `redrive intake` drains them."""
        return [*self.queues, *self.topics]

    @cached_property
    def queues(self) -> Sequence[tuple[Source, Reader]]:
        """The sources on SQS with their readers, Redrive's own dead-letter queues among them: a sweep drains them."""
        return [*self._configured_queues(), *self._celery_dead_letters()]

    @cached_property
    def topics(self) -> Sequence[tuple[Source, Reader]]:
        """The sources on Kafka with their readers. No sweep drains them: a consumer group is not joined for a slice."""
        return [
            (
                KafkaSource(
                    name,
                    bootstrap=table.bootstrap,
                    topics=table.topics,
                    group=table.group,
                    properties=self.settings.kafka_properties(name),
                    headers=table.header_names,
                ),
                table.reader(self.settings.routes),
            )
            for name, table in self.settings.kafka_sources.items()
        ]

    def _configured_queues(self) -> Iterator[tuple[Source, Reader]]:
        for name, table in self.settings.sources.items():
            if isinstance(table, SqsSourceTable):
                readers = other_readers(name, self.settings.sources, self.settings.broker)
                yield SqsSource(name, self._client_of(table), table.queue, readers), table.reader(self.settings.routes)

    def lags(self, name: str) -> list[Lag]:
        """Return how far each partition of a Kafka source is behind. Raises BrokerUnavailable, ConfigError."""
        table = self.settings.kafka_sources[name]
        properties = self.settings.kafka_properties(name)
        return lags(name, bootstrap=table.bootstrap, topics=table.topics, group=table.group, properties=properties)

    def _celery_dead_letters(self) -> Iterator[tuple[Source, Reader]]:
        for queue in CELERY_QUEUES:
            if name := self._queue_address(queue + DLQ_SUFFIX):
                source = SqsSource(CELERY_SOURCE, self.sqs, name)
                yield CeleryDeadLetters(source, WAKEUPS), self.messages

    def _queue_address(self, name: str) -> str | None:
        """Return the queue's URL where queues are predefined (None when it is not among them), else its name."""
        predefined = self.settings.broker.predefined_queues
        return predefined.get(name) if predefined else self.settings.broker.queue_prefix + name

    @cached_property
    def sqs(self) -> SQSClient:
        """A client for the broker's SQS."""
        broker = self.settings.broker
        return Connection(
            region=broker.region,
            endpoint_url=broker.endpoint_url,
            access_key_id=broker.access_key_id,
            secret_access_key=broker.secret_access_key,
        ).client()

    def _client_of(self, table: SqsSourceTable) -> SQSClient:
        """Return the broker's client, or one for the source's own endpoint: the broker's keys are not sent elsewhere."""
        if table.endpoint is None:
            return self.sqs
        return Connection(region=self.settings.broker.region, endpoint_url=table.endpoint).client()

    def _count_queued_wakeups(self) -> int:
        queue = self._queue_address(RECOVERY_QUEUE)
        if queue is None:
            raise BrokerUnavailable(f"{RECOVERY_QUEUE} is not among the predefined queues", hint="add it")
        return count_messages(self.sqs, queue)

    def ensure_queues(self) -> None:
        """Make the queues that are missing, each with its dead-letter queue; nothing where queues are managed elsewhere.

        Raises:
            BrokerUnavailable: SQS does not answer or refuses.
        """
        broker = self.settings.broker
        if not broker.manage_queues or broker.predefined_queues:
            return
        hidden = self.settings.visibility_timeout
        wanted = [(self.sqs, broker.queue_prefix + name, hidden) for name in CELERY_QUEUES]
        tables = [table for table in self.settings.sources.values() if isinstance(table, SqsSourceTable)]
        wanted += [(self._client_of(table), table.queue, 0) for table in tables if "://" not in table.queue]
        for client, name, least in wanted:
            with talking_to(name):
                ensure_queue(client, name, visibility_timeout=hidden, max_receives=broker.max_receives, least_visibility=least)

    def ensure_ledger(self) -> None:
        """Create an empty ledger; an older one is a person's decision (`redrive db upgrade`).

        Raises:
            LedgerOutdated: its schema is not the one that this version writes.
            LedgerUnavailable: the database does not answer.
        """
        with create_ledger(self.settings):
            pass

    def check(self) -> None:
        """Read every secret that the environment must hold. Raises ConfigError: a worker should not start without them."""
        self.settings.tokens()
        self.settings.sentry_dsn()
        apprise_sinks(self.settings.notify_urls(), origin=self.settings.alerts.notify_env)

    def close(self) -> None:
        """Let go of what is open. The runtime can be used again afterwards: what it needs is made anew."""
        for name in ("notifier", "api", "ledger"):
            if part := vars(self).pop(name, None):
                part.close()
        for source, _ in vars(self).pop("topics", ()):
            source.close()
        for name in [name for name in vars(self) if name not in {"settings", "_sender", "_stopping"}]:
            del vars(self)[name]
