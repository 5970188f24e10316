"""librdkafka's consumer: its configuration, its voice, and its errors in Redrive's words."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException

from tasks.dlq.errors import BrokerUnavailable, ConfigError
from tasks.dlq.text import shorten

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

log = structlog.get_logger("redrive.kafka")

#: Names: https://github.com/confluentinc/librdkafka/blob/master/CONFIGURATION.md
_DEFAULTS: Mapping[str, Any] = {
    "client.id": "redrive",
    "socket.keepalive.enable": True,
    # What is fetched ahead waits in memory: by default 100,000 messages or 64 MiB, in which headers do not count.
    # A message that is larger than these bounds comes all the same.
    "queued.min.messages": 1000,
    "queued.max.messages.kbytes": 4096,
    "fetch.max.bytes": 4 << 20,
    "max.partition.fetch.bytes": 256 << 10,
    "fetch.queue.backoff.ms": 20,  # a full queue is looked at again after a second by default
    # A topic or a partition that is made later is found in seconds, not in five minutes.
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
    KafkaError._AUTHENTICATION,  # noqa: SLF001 - how librdkafka's own codes are spelled
    KafkaError._SSL,  # noqa: SLF001
    KafkaError.SASL_AUTHENTICATION_FAILED,
    KafkaError.TOPIC_AUTHORIZATION_FAILED,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
    KafkaError.CLUSTER_AUTHORIZATION_FAILED,
)


class _Quiet:
    """Takes librdkafka's log lines, one a second and broker while a broker is down, for those who ask for them."""

    def log(self, _level: int, line: str, *values: object) -> None:
        """Pass a line on."""
        log.debug("librdkafka", said=line % values)


def configuration(bootstrap: str, group: str, properties: Mapping[str, Any]) -> dict[str, Any]:
    """Return the consumer's configuration: a person's properties over the defaults, under what the promise needs."""
    return {**_DEFAULTS, **properties, **_OWN, "bootstrap.servers": bootstrap, "group.id": group, "logger": _Quiet()}


def is_cooperative(config: Mapping[str, Any]) -> bool:
    """Tell whether the group hands out partitions one by one, rather than all of a member's at once."""
    strategy = str(config.get("partition.assignment.strategy", ""))
    return "cooperative" in strategy or str(config.get("group.protocol")).lower() == "consumer"


def open_consumer(name: str, config: Mapping[str, Any], on_error: Callable[[KafkaError], None]) -> Consumer:
    """Return a consumer that has joined nothing yet.

    Raises:
        ConfigError: librdkafka does not take the configuration.
    """
    try:
        return Consumer({**config, "error_cb": on_error})
    except (KafkaException, TypeError, ValueError) as error:
        said = error.args[0].str() if isinstance(error, KafkaException) else str(error)
        hint = f"see sources.{name}.properties: they go to librdkafka"
        raise ConfigError(f"Kafka source {name} cannot be set up: {said}", hint=hint) from error


def check(name: str, config: Mapping[str, Any]) -> None:
    """Refuse a configuration that librdkafka does not take, without talking to any broker. Raises ConfigError."""
    open_consumer(name, {**config, "bootstrap.servers": ""}, lambda _error: None).close()


@contextmanager
def talking_to(bootstrap: str) -> Iterator[None]:
    """Turn what confluent-kafka raises into BrokerUnavailable."""
    try:
        yield
    except KafkaException as error:
        raise unavailable(bootstrap, error.args[0]) from error


def unavailable(bootstrap: str, error: KafkaError) -> BrokerUnavailable:
    """Return an error of librdkafka's as Redrive's, with what to do."""
    if error.code() in _REFUSED:
        return BrokerUnavailable(f"Kafka at {bootstrap} refuses: {_said(error)}", hint="check the credentials and the ACLs")
    return BrokerUnavailable(f"Kafka at {bootstrap} does not answer: {_said(error)}", hint="check bootstrap and the brokers")


def _said(error: KafkaError) -> str:
    return shorten(error.str())
