"""Rules for what a Kafka source says in redrive.toml: brokers, topics, and properties of librdkafka."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from tasks.settings.hosts import one_name
from tasks.settings.rules import Matching, Rule

#: https://github.com/apache/kafka/blob/trunk/clients/src/main/java/org/apache/kafka/common/internals/Topic.java
TOPIC = Matching(r"(?!\.{1,2}\Z)[A-Za-z0-9._-]{1,249}", "a topic's name (A-Z a-z 0-9 . _ -, at most 249 characters)")
GROUP = Matching(r"[A-Za-z0-9._-]{1,249}", "at most 249 of A-Z a-z 0-9 . _ -")
_HOST = r"(?:[A-Za-z0-9._-]{1,253}|\[[0-9A-Fa-f:.]{2,45}\]):[0-9]{1,5}"
BOOTSTRAP = Matching(rf"{_HOST}(?:, ?{_HOST})*", '"HOST:PORT", several with commas between')
_MOST_TOPICS = 100
_MOST_TEXT = 4000
_NAME = re.compile(r"[a-z0-9]+(?:[._][a-z0-9]+)*", re.ASCII)
_SECRET = re.compile(r"password|passphrase|secret|ssl\.key\.pem|private\.key\.pem|oauthbearer\.config")
#: What the promise rests on, or what has a key of its own.
_OWN = {
    "allow.auto.create.topics": "Redrive reads topics and makes none",
    "auto.commit.interval.ms": "offsets are committed after the ledger",
    "auto.offset.reset": "a partition without a committed offset is read from its beginning",
    "bootstrap.servers": "set `bootstrap`",
    "metadata.broker.list": "set `bootstrap`",
    "enable.auto.commit": "offsets are committed after the ledger",
    "enable.auto.offset.store": "offsets are committed after the ledger",
    "enable.partition.eof": "Redrive needs to see where a partition ends",
    "group.id": "set `group`",
    "isolation.level": "what was not committed by its writer is no dead letter",
    "offset.store.method": "offsets are committed after the ledger",
    "plugin.library.paths": "Redrive loads no code that a setting names",
}


def property_name(name: str) -> str:
    """Return a property as librdkafka writes it: TOML and the environment like `_` better than the dot."""
    return name.replace("_", ".")


def brokers(bootstrap: str) -> set[tuple[str, int]]:
    """Return host and port of each broker; this machine is one host, however it is written."""
    found = (each.strip().rpartition(":") for each in bootstrap.split(","))
    return {(one_name(host.strip("[]").lower()), int(port)) for host, _, port in found}


@dataclass(frozen=True)
class Topics(Rule):
    """The topics of a source."""

    meaning: str = f'a list of topics, such as ["employees-dlt"], at most {_MOST_TOPICS}'

    def parse(self, value: Any) -> tuple[str, ...]:
        """Return the names; from the environment, with commas between."""
        if isinstance(value, str):
            value = [each.strip() for each in value.split(",")]
        if not isinstance(value, list) or not 1 <= len(value) <= _MOST_TOPICS or len({*map(str, value)}) < len(value):
            raise self.refusal()
        return tuple(TOPIC.parse(each) for each in value)

    def show(self, value: tuple[str, ...]) -> list[str]:
        """Return the names as a list."""
        return list(value)


@dataclass(frozen=True)
class PropertyName(Rule):
    """The name of a property of librdkafka's consumer; `secret` for those that stand in the environment."""

    secret: bool = False
    meaning: str = 'a property of librdkafka, such as security_protocol or "security.protocol"'

    def parse(self, value: Any) -> str:
        """Return the name unchanged."""
        if not isinstance(value, str) or not _NAME.fullmatch(value):
            raise self.refusal()
        name = property_name(value)
        if name in _OWN:
            raise ValueError(f"must not be set: {_OWN[name]}")
        if _SECRET.search(name) and not self.secret:
            raise ValueError(
                f"must not stand in a file: put it into the environment and its variable into properties_env.{value}"
            )
        return value


@dataclass(frozen=True)
class PropertyValue(Rule):
    """The value of a property. Never echoed when refused: secrets are put into the wrong place."""

    meaning: str = "text, a number, true or false"

    def parse(self, value: Any) -> str:
        """Return the value as librdkafka reads it."""
        if isinstance(value, dict):
            raise ValueError(f'must be {self.allowed}; write _ for the dots of a name, or quote it: "a.b"')  # noqa: TRY004
        if isinstance(value, bool):
            return str(value).lower()
        if isinstance(value, int | float):
            return str(value)
        if not isinstance(value, str) or len(value) > _MOST_TEXT or "\0" in value:
            raise self.refusal()
        return value

    def echo(self, value: Any) -> str | None:  # noqa: ARG002
        """Return nothing: it may be a secret."""
        return None
