"""The kinds of sources. To add a kind, add one class here, with its settings table and its adapter."""

from __future__ import annotations

from abc import ABC, abstractmethod
from contextlib import closing, contextmanager
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar

from tasks.adapters.kafka import KafkaSource, KafkaTopics, Lag, read_lags, sample
from tasks.adapters.sqs import Connection, SqsQueue, SqsSource
from tasks.adapters.sqs.client import translate_errors
from tasks.adapters.sqs.queues import ensure_queue
from tasks.adapters.sqs.source import GIVEN_BACK
from tasks.celery_queues import connect_broker
from tasks.dlq.errors import RedriveError
from tasks.doctor.findings import of_error
from tasks.doctor.kafka import check_topics
from tasks.doctor.queues import check_queue
from tasks.settings.kafka import KafkaTable
from tasks.settings.queues import SqsTable, other_readers

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from tasks.dlq.ports import Record, Source
    from tasks.doctor.findings import Finding
    from tasks.settings import Settings

Spec = TypeVar("Spec")
#: Seconds that a sample waits for more records.
SAMPLE_WAIT = 1.0


class SourceKind(ABC, Generic[Spec]):
    """A kind of source in redrive.toml. Its spec holds what the adapter needs of the settings."""

    #: Whether the sweep `redrive.sources` drains the source for a few seconds. If not, only `redrive intake` reads it.
    sweepable: ClassVar[bool] = True
    #: What a sample changes, and a hint; empty if it changes nothing.
    sample_warning: ClassVar[tuple[str, str] | None] = None

    @abstractmethod
    def specify(self, settings: Settings, name: str) -> Spec:
        """Return the spec of a source. Raises ConfigError."""

    @abstractmethod
    def open(self, spec: Spec) -> Source:
        """Return the source. Raises ConfigError."""

    @abstractmethod
    def check(self, spec: Spec) -> Iterator[Finding]:
        """Check for `redrive doctor` that the source can be read."""

    def create(self, settings: Settings, name: str) -> None:
        """Create what the source reads, if Redrive manages it. Raises BrokerUnavailable."""

    def read_lags(self, spec: Spec) -> Sequence[Lag] | None:  # noqa: ARG002
        """Return how far each part of the source is behind; None if this kind has no offsets. Raises BrokerUnavailable."""
        return None

    @contextmanager
    def sample(self, spec: Spec, limit: int) -> Iterator[Iterator[Record]]:
        """Yield up to `limit` records, and leave them in the source. Raises BrokerUnavailable, ConfigError."""
        received: dict[str, Record] = {}
        with closing(self.open(spec)) as source:
            try:
                yield islice(_receive_once(source, received), limit)
            finally:
                source.give_back(list(received.values()))


class SqsKind(SourceKind[SqsQueue]):
    """An SQS queue."""

    sample_warning = (
        "SQS counts one more receive of each message",
        f"its redrive policy counts it, too (maxReceiveCount); the messages are visible again after {GIVEN_BACK} s",
    )

    def specify(self, settings: Settings, name: str) -> SqsQueue:
        tables, broker = settings.sources_of(SqsTable), settings.broker
        table = tables[name]
        # The broker's keys are not sent to another endpoint.
        other = Connection(region=broker.region, endpoint_url=table.endpoint) if table.endpoint else None
        return SqsQueue(
            source=name,
            queue=table.queue,
            connection=other or connect_broker(broker),
            other_readers=other_readers(name, tables, broker),
            managed=broker.creates_queues and "://" not in table.queue,
        )

    def open(self, spec: SqsQueue) -> Source:
        return SqsSource(spec)

    def check(self, spec: SqsQueue) -> Iterator[Finding]:
        return check_queue(spec)

    def create(self, settings: Settings, name: str) -> None:
        spec = self.specify(settings, name)
        if spec.managed:
            with translate_errors(spec.queue), closing(spec.connection.client()) as client:
                ensure_queue(
                    client,
                    spec.queue,
                    visibility_timeout=settings.visibility_timeout,
                    max_receives=settings.broker.max_receives,
                )


class KafkaKind(SourceKind[KafkaTopics]):
    """Kafka topics. A consumer takes seconds to join its group: too long for a sweep."""

    sweepable = False

    def specify(self, settings: Settings, name: str) -> KafkaTopics:
        table = settings.sources_of(KafkaTable)[name]
        return KafkaTopics(
            source=name,
            bootstrap=table.bootstrap,
            topics=table.topics,
            group=table.group,
            properties=table.librdkafka(settings.source_secrets(name)),
            header_names=table.header_names,
        )

    def open(self, spec: KafkaTopics) -> Source:
        return KafkaSource(spec)

    def check(self, spec: KafkaTopics) -> Iterator[Finding]:
        return check_topics(spec)

    def read_lags(self, spec: KafkaTopics) -> Sequence[Lag]:
        return read_lags(spec)

    @contextmanager
    def sample(self, spec: KafkaTopics, limit: int) -> Iterator[Iterator[Record]]:
        with sample(spec) as records:
            yield islice(records, limit)


#: By the `kind` in redrive.toml.
SOURCE_KINDS: dict[str, SourceKind[Any]] = {"sqs": SqsKind(), "kafka": KafkaKind()}


def kinds_of(settings: Settings) -> Mapping[str, SourceKind[Any]]:
    """Return the kind of each source, by the source's name."""
    return {name: SOURCE_KINDS[source.kind] for name, source in settings.sources.items()}


def check_source(settings: Settings, name: str) -> Iterator[Finding]:
    """Check one source. A finding of an error has the name of the source."""
    kind = SOURCE_KINDS[settings.sources[name].kind]
    try:
        yield from kind.check(kind.specify(settings, name))
    except RedriveError as error:
        yield of_error(f"source {name}", error)


def _receive_once(source: Source, received: dict[str, Record]) -> Iterator[Record]:
    """Yield each record once. Note in `received` what is to be given back, without the bodies."""
    while fresh := [each for each in source.receive(wait=SAMPLE_WAIT) if each.identity not in received]:
        received |= {each.identity: replace(each, body=b"") for each in fresh}
        yield from fresh
