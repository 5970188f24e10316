"""`[sources.NAME]`: where failures come from, and how their bodies become parameters."""

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from tasks.dlq.errors import ConfigError
from tasks.settings import kafka
from tasks.settings.mappings import MappingTable
from tasks.settings.sections import QUEUE_NAME
from tasks.settings.urls import HttpUrl, check_http, masked
from tasks.settings.values import Display, KeyPath, Refusal, VariableName

_KIND = Display('"sqs" or "kafka"')
_QUEUE = re.compile(rf"(?=.{{1,80}}\Z){QUEUE_NAME}(\.fifo)?", re.ASCII)


def _check_queue(value: str) -> str:
    if "://" in value:
        return check_http(value)
    if not _QUEUE.fullmatch(value):
        raise ValueError
    return value


#: A queue of another account is named by its URL.
Queue = Annotated[
    str,
    AfterValidator(_check_queue),
    Display(
        "a queue's name (A-Z a-z 0-9 - _, at most 80 characters, .fifo at the end of a FIFO queue's) or its URL",
        show=masked,
        secret=True,
    ),
]


class SqsSource(MappingTable):
    """An SQS queue that any language fills with plain JSON."""

    kind: Annotated[Literal["sqs"], _KIND]
    queue: Queue
    endpoint: HttpUrl | None = Field(default=None, description="default: the broker's")


class KafkaSource(MappingTable):
    """Dead-letter topics, read in a consumer group. Properties are those of librdkafka, with `_` for their dots."""

    kind: Annotated[Literal["kafka"], _KIND]
    bootstrap: kafka.Bootstrap
    topics: kafka.Topics
    group: kafka.Group = "redrive"
    properties: dict[kafka.PropertyName, kafka.PropertyValue] = Field(default_factory=dict)
    properties_env: dict[kafka.SecretPropertyName, VariableName] = Field(default_factory=dict)
    header_names: dict[kafka.Role, kafka.HeaderOfRole] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        found: list[tuple[KeyPath, str]] = []
        if self.header_names and "topic" not in self.header_names:
            found.append((("header_names",), "must name the header with the topic: that header marks a dead letter"))
        seen: set[str] = set()
        for table in ("properties", "properties_env"):
            for name in getattr(self, table):
                if kafka.property_name(name) in seen:
                    found.append(((table, name), f"must be set only once: {kafka.property_name(name)} is set twice"))
                seen.add(kafka.property_name(name))
        if found:
            raise Refusal(*found)
        return self

    def librdkafka(self, name: str, environ: Mapping[str, str]) -> dict[str, str]:
        """Return the properties as librdkafka names them, with the secrets from `environ`; `name` is the source's.

        Raises:
            ConfigError: a variable is not set. The message names it.
        """
        absent = [(key, variable) for key, variable in self.properties_env.items() if not environ.get(variable)]
        if absent:
            lines = [f"{variable} is not set: sources.{name}.properties_env.{key} names it" for key, variable in absent]
            raise ConfigError("\n".join(lines), hint="set the variable in the environment of the intake")
        secrets = {key: environ[variable] for key, variable in self.properties_env.items()}
        return {kafka.property_name(key): value for key, value in {**self.properties, **secrets}.items()}


AnySource = Annotated[SqsSource | KafkaSource, Field(discriminator="kind")]


def topic_conflicts(sources: Mapping[str, object]) -> Iterator[tuple[KeyPath, str]]:
    """Yield the path and a clause for each Kafka source that shares a topic with another one, whatever their groups are.

    Kafka gives each group all records of a topic, and Redrive knows a record's identity only within its source.
    """
    seen: dict[tuple[tuple[str, int], str], str] = {}
    for name, source in sources.items():
        if isinstance(source, KafkaSource):
            places = [(broker, topic) for broker in kafka.brokers(source.bootstrap) for topic in source.topics]
            if first := next((seen[place] for place in places if place in seen), None):
                clause = f"must not be those of source {first}, in any group: each dead letter has one reader"
                yield ("sources", name, "topics"), clause
            seen |= dict.fromkeys(places, name)
