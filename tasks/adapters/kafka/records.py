"""A Kafka message as a record."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tasks.adapters.kafka.origin import MAX_KEY, shown
from tasks.dlq.ports import Record

if TYPE_CHECKING:
    from confluent_kafka import Message

    from tasks.adapters.kafka.origin import Recogniser

#: A topic's name has at most 249 characters, an identity 200.
_LONG_TOPIC = 120
_DIGEST = 32  # hexadecimal digits: 128 bits


@dataclass(frozen=True)
class Place:
    """The place of a message in Kafka."""

    topic: str
    partition: int
    offset: int


def record_of(message: Message, recogniser: Recogniser) -> Record:
    """Return a message as a record. A null value becomes an empty body, and the origin says so.

    The identity is topic, partition, offset, and a digest of timestamp, key and value. A topic that is deleted and created again
    uses the same offsets for other messages.
    """
    place = Place(message.topic() or "", message.partition() or 0, message.offset() or 0)
    key, value = message.key(), message.value()
    timestamp = message.timestamp()[1]
    origin: dict[str, Any] = {
        "topic": place.topic,
        "partition": place.partition,
        "offset": place.offset,
        "timestamp": timestamp,
        **_read_headers(message, recogniser),
    }
    if key is not None:
        origin["key"] = shown(_bytes(key), MAX_KEY)
    if value is None:
        origin["null_value"] = True
    return Record(
        identity=_identity(place, timestamp, key, value),
        body=_bytes(value),
        origin=origin,
        receipt=place,
        stream=f"{place.topic}/{place.partition}",
        offset=place.offset,
    )


def _read_headers(message: Message, recogniser: Recogniser) -> dict[str, Any]:
    try:
        headers: Any = message.headers()
    except UnicodeDecodeError:  # a header's name that is not UTF-8
        return {"headers": "unreadable"}
    return recogniser.origin(headers) if headers else {}


def _identity(place: Place, timestamp: int, key: Any, value: Any) -> str:
    digest = hashlib.sha256(f"{timestamp} {_size(key)} {_size(value)} ".encode())
    digest.update(_bytes(key))
    digest.update(_bytes(value))
    topic = place.topic
    if len(topic) > _LONG_TOPIC:
        topic = hashlib.sha256(topic.encode()).hexdigest()[:_DIGEST]
    return f"{topic}/{place.partition}/{place.offset}#{digest.hexdigest()[:_DIGEST]}"


def _size(data: Any) -> int:
    return -1 if data is None else len(data)


def _bytes(data: Any) -> bytes:
    """Return a key or a value as bytes; confluent-kafka declares str or bytes."""
    if data is None:
        return b""
    return data if isinstance(data, bytes) else str(data).encode()
