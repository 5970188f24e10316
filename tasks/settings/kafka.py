"""The types of a Kafka source's values in redrive.toml: brokers, topics, and properties of librdkafka."""

import json
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints, model_validator

from tasks.dlq.secrets.names import is_secret_property
from tasks.names import HEADER_ROLES
from tasks.settings.mappings import KIND, MappingTable
from tasks.settings.sections import Broker
from tasks.settings.urls import canonical_host
from tasks.settings.values import Display, KeyPath, PrintableText, Refusal, VariableName, split_commas

#: Properties that Redrive's guarantees depend on, or that have a key of their own.
_RESERVED = {
    "allow.auto.create.topics": "Redrive reads topics and creates none",
    "auto.commit.interval.ms": "offsets are committed after the ledger",
    "auto.offset.reset": "a partition without a committed offset is read from its beginning",
    "bootstrap.servers": "set `bootstrap`",
    "metadata.broker.list": "set `bootstrap`",
    "enable.auto.commit": "offsets are committed after the ledger",
    "enable.auto.offset.store": "offsets are committed after the ledger",
    "enable.partition.eof": "Redrive needs to see where a partition ends",
    "group.id": "set `group`",
    "isolation.level": "a record that its writer did not commit is not a dead letter",
    "offset.store.method": "offsets are committed after the ledger",
    "plugin.library.paths": "Redrive loads no code that a setting names",
}
_HOST = r"([A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\]):[0-9]{1,5}"


def property_name(name: str) -> str:
    """Return a property with the dots of librdkafka; redrive.toml and the environment may have `_` instead."""
    return name.replace("_", ".")


def brokers(bootstrap: str) -> set[tuple[str, int]]:
    """Return host and port of each broker. All spellings of a host are one."""
    found = (each.strip().rpartition(":") for each in bootstrap.split(","))
    return {(canonical_host(host.strip("[]").lower()), int(port)) for host, _, port in found}


def _refuse_reserved(name: str) -> str:
    if reason := _RESERVED.get(property_name(name)):
        raise Refusal(((), f"must not be set: {reason}"))
    return name


def _refuse_secret(name: str) -> str:
    if is_secret_property(property_name(name)):
        clause = f"must not be in a file: put it into the environment and name its variable in properties_env.{name}"
        raise Refusal(((), clause))
    return name


def _convert_value(value: Any) -> Any:
    if isinstance(value, dict):
        raise Refusal(((), 'must be text, a number, true or false; write _ for the dots of a name, or quote it: "a.b"'))
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int | float) else value


def _refuse_duplicates(topics: tuple[str, ...]) -> tuple[str, ...]:
    if len({*topics}) < len(topics):
        raise ValueError("a topic is named twice")
    return topics


Bootstrap = Annotated[
    str, StringConstraints(pattern=rf"^{_HOST}(, ?{_HOST})*$"), Display('"HOST:PORT", several with commas between')
]
#: https://github.com/apache/kafka/blob/trunk/clients/src/main/java/org/apache/kafka/common/internals/Topic.java
_Topic = Annotated[str, StringConstraints(pattern=r"^(\.*[A-Za-z0-9_-]|\.{3})[A-Za-z0-9._-]*$", max_length=249)]
Topics = Annotated[
    tuple[_Topic, ...],
    Field(min_length=1, max_length=100),
    AfterValidator(_refuse_duplicates),
    BeforeValidator(split_commas),
    Display('a list of at most 100 topics, such as ["employees-dlt"]; a topic has at most 249 of A-Z a-z 0-9 . _ -', show=list),
]
Group = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9._-]{1,249}$"), Display("at most 249 of A-Z a-z 0-9 . _ -")]
#: A property whose value the environment holds. It may be a secret.
SecretPropertyName = Annotated[
    str,
    StringConstraints(pattern=r"^[a-z0-9]+([._][a-z0-9]+)*$"),
    AfterValidator(_refuse_reserved),
    Display('a property of librdkafka, such as security_protocol or "security.protocol"'),
]
PropertyName = Annotated[SecretPropertyName, AfterValidator(_refuse_secret)]
#: A refused value is never repeated: it may be a secret in the wrong place.
PropertyValue = Annotated[
    str,
    StringConstraints(max_length=4000, pattern=r"^[^\x00]*$"),
    BeforeValidator(_convert_value),
    Display("text, a number, true or false", secret=True),
]
Role = Annotated[
    str, StringConstraints(pattern=f"^({'|'.join(HEADER_ROLES)})$"), Display(" or ".join(map(json.dumps, HEADER_ROLES)))
]
HeaderOfRole = Annotated[PrintableText, Field(max_length=250), Display("a header's name")]


class KafkaTable(MappingTable):
    """Dead-letter topics, read in a consumer group. Properties are those of librdkafka, with `_` for their dots."""

    kind: Annotated[Literal["kafka"], KIND]
    bootstrap: Bootstrap
    topics: Topics
    group: Group = "redrive"
    properties: dict[PropertyName, PropertyValue] = Field(default_factory=dict)
    properties_env: dict[SecretPropertyName, VariableName] = Field(default_factory=dict)
    header_names: dict[Role, HeaderOfRole] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _check_names(self) -> Self:
        found: list[tuple[KeyPath, str]] = []
        if self.header_names and "topic" not in self.header_names:
            found.append((("header_names",), "must name the header with the topic: that header marks a dead letter"))
        seen: set[str] = set()
        for table in ("properties", "properties_env"):
            for name in getattr(self, table):
                if property_name(name) in seen:
                    found.append(((table, name), f"must be set only once: {property_name(name)} is set twice"))
                seen.add(property_name(name))
        if found:
            raise Refusal(*found)
        return self

    @property
    def secret_variables(self) -> Mapping[str, str]:
        return {f"properties_env.{key}": variable for key, variable in self.properties_env.items()}

    def librdkafka(self, secrets: Mapping[str, str]) -> dict[str, str]:
        """Return the properties as librdkafka names them. `secrets` are the values of `secret_variables`, by key."""
        hidden = {key: secrets[f"properties_env.{key}"] for key in self.properties_env}
        return {property_name(key): value for key, value in {**self.properties, **hidden}.items()}

    @classmethod
    def find_conflicts(cls, sources: Mapping[str, Self], broker: Broker) -> Iterator[tuple[KeyPath, str]]:  # noqa: ARG003
        """Yield the path and a clause for each source that shares a topic with another one, even in another group.

        Kafka gives each group all records of a topic, and Redrive knows a record's identity only within its source.
        """
        seen: dict[tuple[tuple[str, int], str], str] = {}
        for name, source in sources.items():
            places = [(server, topic) for server in brokers(source.bootstrap) for topic in source.topics]
            if first := next((seen[place] for place in places if place in seen), None):
                clause = f"must not be those of source {first}, in any group: each dead letter has one reader"
                yield ("sources", name, "topics"), clause
            seen |= dict.fromkeys(places, name)
