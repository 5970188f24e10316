"""The header names of seven writers of dead letters, and names from redrive.toml.

Sources: Spring's `KafkaHeaders`, `DeadLetterRecordManager` and `RetryTopicHeaders`; `DeadLetterQueueReporter` of Kafka
Connect; KIP-1034 (Kafka Streams); KIP-1191 (share groups); `KafkaDeadLetterQueue` and `KafkaDelayedRetryTopic` of SmallRye;
`KafkaMessageChannelBinder` of Spring Cloud Stream.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


class Numbers(Enum):
    """How a writer encodes partition, offset, timestamp and attempts."""

    BINARY = "big-endian, signed, of one to eight bytes"  # Java's ByteBuffer, and BigInteger without leading bytes
    TEXT = "decimal digits"
    EITHER = "decimal digits, else big-endian"


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """The header names of one writer."""

    name: str
    #: The headers of each role, the preferred one first.
    names: Mapping[str, tuple[str, ...]]
    numbers: Numbers
    #: More headers to keep, by their name in the origin.
    details: Mapping[str, str] = field(default_factory=dict)
    #: The writer puts its headers before those of earlier hops. All others append.
    newest_first: bool = False
    #: `attempts` is the number of the next attempt.
    counts_next_attempt: bool = False


def _prefixed(prefix: str, **names: str) -> dict[str, tuple[str, ...]]:
    return {role: (prefix + name,) for role, name in names.items()}


_ORIGINAL = {
    "topic": "original-topic",
    "partition": "original-partition",
    "offset": "original-offset",
    "timestamp": "original-timestamp",
    "exception": "exception-fqcn",
    "message": "exception-message",
}

SPRING = Dialect(
    name="spring",
    names=_prefixed("kafka_dlt-", **_ORIGINAL, group="original-consumer-group", cause="exception-cause-fqcn")
    | {
        # A key that cannot be deserialised has names of its own.
        "exception": ("kafka_dlt-exception-fqcn", "kafka_dlt-key-exception-fqcn"),
        "message": ("kafka_dlt-exception-message", "kafka_dlt-key-exception-message"),
        "attempts": ("kafka_deliveryAttempt",),
    },
    numbers=Numbers.BINARY,
)
SPRING_RETRY = Dialect(
    name="spring-retry-topic",
    names=_prefixed("kafka_", **_ORIGINAL, group="dlt-original-consumer-group", cause="exception-cause-fqcn")
    | {
        "exception": ("kafka_exception-fqcn", "kafka_key-exception-fqcn"),
        "message": ("kafka_exception-message", "kafka_key-exception-message"),
        "attempts": ("retry_topic-attempts",),
        # Each hop sets original-timestamp again. This header is set once.
        "timestamp": ("retry_topic-original-timestamp", "kafka_original-timestamp"),
    },
    numbers=Numbers.BINARY,
    counts_next_attempt=True,
)
CONNECT = Dialect(
    name="connect",
    names=_prefixed(
        "__connect.errors.",
        topic="topic",
        partition="partition",
        offset="offset",
        exception="exception.class.name",
        message="exception.message",
    ),
    details={
        "connector": "__connect.errors.connector.name",
        "task": "__connect.errors.task.id",
        "stage": "__connect.errors.stage",
        "class": "__connect.errors.class.name",
    },
    numbers=Numbers.TEXT,
)
STREAMS = Dialect(
    name="streams",
    names=_prefixed(
        "__streams.errors.", topic="topic", partition="partition", offset="offset", exception="exception", message="message"
    ),
    numbers=Numbers.TEXT,
)
SHARE_GROUP = Dialect(
    name="share-group",
    names=_prefixed(
        "__dlq.errors.",
        topic="topic",
        partition="partition",
        offset="offset",
        group="group",
        message="message",
        attempts="delivery.count",
    ),
    numbers=Numbers.TEXT,
)
SMALLRYE = Dialect(
    name="smallrye",
    names=_prefixed(
        "dead-letter-",
        topic="topic",
        partition="partition",
        offset="offset",
        exception="exception-class-name",
        message="reason",
        cause="cause-class-name",
        cause_message="cause",
    )
    | {"attempts": ("delayed-retry-count",), "timestamp": ("delayed-retry-original-timestamp",)},
    numbers=Numbers.TEXT,
    newest_first=True,
)
CLOUD_STREAM = Dialect(
    name="spring-cloud-stream",
    names=_prefixed("x-", **_ORIGINAL),
    numbers=Numbers.BINARY,
)
DIALECTS = (SPRING, SPRING_RETRY, CONNECT, STREAMS, SHARE_GROUP, SMALLRYE, CLOUD_STREAM)


def custom(names: Mapping[str, str]) -> Dialect:
    """Return the dialect of `header_names` in redrive.toml, by role. `topic` is one of them."""
    return Dialect(name="custom", names={role: (name,) for role, name in names.items()}, numbers=Numbers.EITHER)
