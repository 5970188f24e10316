"""`[sources.NAME]`: where failures come from, and how their bodies become parameters."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Self

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from tasks.dlq.errors import ConfigError
from tasks.names import HEADER_ROLES
from tasks.settings.kafka import BOOTSTRAP, GROUP, PropertyName, PropertyValue, Topics, brokers, property_name
from tasks.settings.mappings import KINDS, MappingTable
from tasks.settings.rules import Line, OneOf, Rule, Variable
from tasks.settings.sections import Conflict, is_queue
from tasks.settings.urls import HttpUrl

_KIND = OneOf(KINDS)


@dataclass(frozen=True)
class Queue(Rule):
    """A queue's name, or its URL when it belongs to another account."""

    meaning: str = "a queue's name (A-Z a-z 0-9 - _, at most 80 characters, .fifo at the end of a FIFO queue's) or its URL"

    def parse(self, value: Any) -> str:
        """Return the name or URL unchanged."""
        if isinstance(value, str) and is_queue(value):
            return value
        if isinstance(value, str) and "://" in value:
            return HttpUrl(self.allowed).parse(value)
        raise self.refusal()


class SourceTable(MappingTable):
    """What every kind of source has."""

    @model_validator(mode="before")
    @classmethod
    def _own_keys(cls, values: Any) -> Any:
        """Tell a key of another kind from one that nobody knows."""
        foreign = {name for other in SourceTable.__subclasses__() for name in other.model_fields} - cls.model_fields.keys()
        if isinstance(values, dict) and (found := sorted(foreign & values.keys())):
            raise Conflict(*(((name,), f"is no key of a source of kind {json.dumps(values['kind'])}") for name in found))
        return values


class SqsSource(SourceTable):
    """An SQS queue that any language fills with plain JSON."""

    queue: Annotated[str, Queue()]
    endpoint: Annotated[str | None, HttpUrl()] = Field(default=None, description="default: the broker's")


class KafkaSource(SourceTable):
    """Dead-letter topics, read in a consumer group. Properties are those of librdkafka, `_` for their dots."""

    bootstrap: Annotated[str, BOOTSTRAP]
    topics: Annotated[tuple[str, ...], Topics()]
    group: Annotated[str, GROUP] = "redrive"
    properties: dict[Annotated[str, PropertyName()], Annotated[str, PropertyValue()]] = Field(default_factory=dict)
    properties_env: dict[Annotated[str, PropertyName(secret=True)], Annotated[str, Variable()]] = Field(default_factory=dict)
    header_names: dict[Annotated[str, OneOf(HEADER_ROLES)], Annotated[str, Line("a header's name", 250)]] = Field(
        default_factory=dict
    )

    @model_validator(mode="after")
    def _names_agree(self) -> Self:
        found: list[tuple[tuple[str, ...], str]] = []
        if self.header_names and "topic" not in self.header_names:
            found.append((("header_names",), "must name the header with the topic: it tells that a record was dead-lettered"))
        seen: set[str] = set()
        for table in ("properties", "properties_env"):
            for name in getattr(self, table):
                if property_name(name) in seen:
                    found.append(((table, name), f"must stand only once: {property_name(name)} is set twice"))
                seen.add(property_name(name))
        if found:
            raise Conflict(*found)
        return self

    def librdkafka(self, name: str, environ: Mapping[str, str]) -> dict[str, str]:
        """Return the properties as librdkafka names them, with the secrets that `environ` holds; `name` is the source's.

        Raises:
            ConfigError: a variable is not set. The message names it.
        """
        absent = [(key, variable) for key, variable in self.properties_env.items() if not environ.get(variable)]
        if absent:
            lines = [f"{variable} is not set: sources.{name}.properties_env.{key} says that it is" for key, variable in absent]
            raise ConfigError("\n".join(lines), hint="set the variable in the environment of the intake")
        secrets = {key: environ[variable] for key, variable in self.properties_env.items()}
        return {property_name(key): value for key, value in {**self.properties, **secrets}.items()}


def _of_a_kind(table: Any) -> Any:
    """Refuse a table without a known kind: nothing else can be told of it."""
    if isinstance(table, dict) and "kind" not in table:
        raise Conflict((("kind",), f"is missing: must be {_KIND.allowed}"))
    if isinstance(table, dict) and table["kind"] not in KINDS:
        raise Conflict((("kind",), f"must be {_KIND.allowed}"))
    return table


def _kind_of(table: Any) -> str | None:
    return table.get("kind") if isinstance(table, dict) else getattr(table, "kind", None)


#: A source of any kind.
AnySource = Annotated[
    Annotated[SqsSource, Tag("sqs")] | Annotated[KafkaSource, Tag("kafka")],
    Discriminator(_kind_of),
    BeforeValidator(_of_a_kind),
]


def topic_conflicts(sources: Mapping[str, object]) -> Iterator[tuple[tuple[str, ...], str]]:
    """Yield the path and a clause for each Kafka source that shares a topic with another one, whatever their groups.

    Each group is given all of a topic, and an identity is known within its source alone.
    """
    seen: dict[tuple[tuple[str, int], str], str] = {}
    for name, source in sources.items():
        if isinstance(source, KafkaSource):
            places = [(broker, topic) for broker in brokers(source.bootstrap) for topic in source.topics]
            if first := next((seen[place] for place in places if place in seen), None):
                clause = f"must not be those of source {first}, in whatever group: each letter has one reader"
                yield ("sources", name, "topics"), clause
            seen |= dict.fromkeys(places, name)
