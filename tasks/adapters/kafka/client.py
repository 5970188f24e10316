"""The consumer of librdkafka: its configuration, its log, and its errors as Redrive's."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException

from tasks.adapters.kafka.dialects import DIALECTS, custom
from tasks.adapters.kafka.origin import Recogniser
from tasks.dlq.errors import BrokerUnavailable, ConfigError
from tasks.dlq.text import shorten

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

log = structlog.get_logger("redrive.kafka")

#: Names: https://github.com/confluentinc/librdkafka/blob/master/CONFIGURATION.md
_DEFAULTS: Mapping[str, Any] = {
    "client.id": "redrive",
    "socket.keepalive.enable": True,
    # Messages fetched ahead are in memory: by default 100,000 messages or 64 MiB, without their headers.
    # A message that is larger than these bounds is delivered, too.
    "queued.min.messages": 1000,
    "queued.max.messages.kbytes": 4096,
    "fetch.max.bytes": 4 << 20,
    "max.partition.fetch.bytes": 256 << 10,
    "fetch.queue.backoff.ms": 20,  # by default librdkafka waits a second after a full queue
    # Find a new topic or partition in seconds, not in five minutes.
    "topic.metadata.refresh.interval.ms": 5_000,
}
_OWN: Mapping[str, Any] = {
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "auto.offset.reset": "earliest",
    "isolation.level": "read_committed",
    "enable.partition.eof": True,
    "allow.auto.create.topics": False,
}
_REFUSED = (
    KafkaError._AUTHENTICATION,  # noqa: SLF001 - librdkafka's codes have underscores
    KafkaError._SSL,  # noqa: SLF001
    KafkaError.SASL_AUTHENTICATION_FAILED,
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
)


@dataclass(frozen=True, kw_only=True)
class KafkaTopics:
    """The topics that a source reads."""

    #: The name of the source.
    source: str
    #: `host:port`, several with commas between.
    bootstrap: str
    topics: Sequence[str]
    #: The consumer group.
    group: str = "redrive"
    #: Properties of librdkafka, secrets included.
    properties: Mapping[str, Any] = field(default_factory=dict, repr=False)
    #: Header names by role, if a writer uses names of its own.
    header_names: Mapping[str, str] = field(default_factory=dict)

    def configure(self) -> dict[str, Any]:
        """Return the consumer's configuration. A person's properties override defaults, but not what Redrive depends on."""
        own = {**_OWN, "bootstrap.servers": self.bootstrap, "group.id": self.group, "logger": _Logger()}
        return {**_DEFAULTS, **self.properties, **own}

    def make_recogniser(self) -> Recogniser:
        """Return what reads the headers of a record."""
        return Recogniser((custom(self.header_names), *DIALECTS) if self.header_names else DIALECTS)


class _Logger:
    """Logs librdkafka's lines at debug level: while a broker is down there is one a second for each broker."""

    def log(self, _level: int, line: str, *values: object) -> None:
        log.debug("librdkafka_logged", line=line % values)


def is_cooperative(config: Mapping[str, Any]) -> bool:
    """Tell whether the group reassigns single partitions, rather than all partitions of a member."""
    strategy = str(config.get("partition.assignment.strategy", ""))
    return "cooperative" in strategy or str(config.get("group.protocol")).lower() == "consumer"


def open_consumer(name: str, config: Mapping[str, Any], on_error: Callable[[KafkaError], None]) -> Consumer:
    """Return a consumer that has not joined a group yet.

    Raises:
        ConfigError: librdkafka refuses the configuration.
    """
    try:
        return Consumer({**config, "error_cb": on_error})
    except (KafkaException, TypeError, ValueError) as error:
        reason = error.args[0].str() if isinstance(error, KafkaException) else str(error)
        hint = f"see sources.{name}.properties: they go to librdkafka"
        raise ConfigError(f"Kafka source {name} cannot be set up: {reason}", hint=hint) from error


def check_configuration(name: str, config: Mapping[str, Any]) -> None:
    """Check a configuration without connecting to a broker. Raises ConfigError."""
    open_consumer(name, {**config, "bootstrap.servers": ""}, lambda _error: None).close()


@contextmanager
def translate_errors(bootstrap: str) -> Iterator[None]:
    """Raise confluent-kafka's errors as BrokerUnavailable."""
    try:
        yield
    except KafkaException as error:
        raise translate(bootstrap, error.args[0]) from error


def translate(bootstrap: str, error: KafkaError) -> BrokerUnavailable:
    """Return an error of librdkafka as Redrive's, with what to do."""
    reason = shorten(error.str())
    if error.code() in _REFUSED:
        return BrokerUnavailable(f"Kafka at {bootstrap} refuses: {reason}", hint="check the credentials and the ACLs")
    return BrokerUnavailable(f"Kafka at {bootstrap} does not answer: {reason}", hint="check bootstrap and the brokers")
