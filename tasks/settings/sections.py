"""The sections of redrive.toml that have no names of their own below them. Durations are seconds, sizes bytes."""

from __future__ import annotations

import re
from functools import cached_property
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel, ConfigDict, Field

from tasks.settings.keys import rule_in, rule_of_values
from tasks.settings.rules import Count, Flag, Line, Matching, Seconds, Variable
from tasks.settings.urls import BrokerUrl, HttpUrl, LedgerUrl, RedisUrl

if TYPE_CHECKING:
    from collections.abc import Iterator

#: A queue's name as SQS has it: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-queues.html
QUEUE_NAME = r"[A-Za-z0-9_-]{1,80}"


class Section(BaseModel):
    """A table of redrive.toml: frozen, knows all its keys, and shows no secret in its repr."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        """Show each value as its rule shows it."""
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            if rule := rule_in(field.metadata):
                yield name, rule.show(value)
            elif isinstance(value, dict) and (rule := rule_of_values(field)):
                yield name, {key: rule.show(item) for key, item in value.items()}
            else:
                yield name, value


class Conflict(ValueError):  # noqa: N818 - a finding for people, not a fault of the program
    """Values of one table that do not go together: for each, its path below the table and a clause for people."""

    def __init__(self, *found: tuple[tuple[str, ...], str]) -> None:
        super().__init__("; ".join(clause for _, clause in found))
        self.found = found


class Ledger(Section):
    """The database that holds the truth."""

    url: Annotated[str, LedgerUrl()] = Field(description="default: ledger.db under state_dir")


class Broker(Section):
    """SQS, for wake-ups and for sources that name no endpoint of their own."""

    url: Annotated[str, BrokerUrl()] = "sqs://"
    tls: Annotated[bool | None, Flag()] = Field(
        default=None, description="default: true, unless the URL has a port other than 443"
    )
    region: Annotated[str, Matching(r"[a-z0-9-]{1,32}", 'an AWS region, such as "us-east-1"')] = "us-east-1"
    queue_prefix: Annotated[str, Matching(r"[A-Za-z0-9_-]{0,40}", "at most 40 of A-Z a-z 0-9 - _")] = ""
    visibility_timeout: Annotated[float | None, Seconds("30s", "12h")] = Field(
        default=None, description="default: 300s, or more where a slice and the longest lease need it"
    )
    polling_interval: Annotated[float, Seconds("10ms", "1s")] = 0.05
    # Celery's curl client gives up after 20 s; kombu adds to the wait what it takes to connect.
    wait_time: Annotated[int, Count(0, 15)] = 10
    manage_queues: Annotated[bool, Flag()] = True
    max_receives: Annotated[int, Count(1, 1000)] = 5
    predefined_queues: dict[Annotated[str, Matching(QUEUE_NAME, "a queue's name")], Annotated[str, HttpUrl()]] = Field(
        default_factory=dict
    )

    @property
    def is_secure(self) -> bool:
        """Whether the broker is spoken to by https: kombu's transport option of this name, and boto3's endpoint."""
        if self.tls is not None:
            return self.tls
        return urlsplit(self.url).port in {None, 443}

    @cached_property
    def endpoint_url(self) -> str | None:
        """The endpoint that kombu makes of the URL, for boto3; None for AWS itself."""
        host = urlsplit(self.url).netloc.rpartition("@")[2]
        return f"{'https' if self.is_secure else 'http'}://{host.lower()}" if host else None

    @property
    def access_key_id(self) -> str | None:
        """The key in the URL; None leaves it to boto3's chain (environment, profile, instance role)."""
        return unquote(urlsplit(self.url).username or "") or None

    @property
    def secret_access_key(self) -> str | None:
        """The secret in the URL; None as for the key."""
        return unquote(urlsplit(self.url).password or "") or None


class Burst(Section):
    """How many failures within how long are told as a burst."""

    failures: Annotated[int, Count(1, 1_000_000)] = 20
    within: Annotated[float, Seconds("10s", "1d")] = 300.0


class Alerts(Section):
    """Who is told. The addresses and the DSN are secrets: these keys name the variables that hold them."""

    notify_env: Annotated[str, Variable()] = "REDRIVE_NOTIFY"
    sentry_dsn_env: Annotated[str, Variable()] = "SENTRY_DSN"
    sentry_environment: Annotated[str, Line("one line of at most 64 characters", 64)] = "production"
    burst: Burst = Burst()


class Monitor(Section):
    """The side channel for Flower; work goes on without it."""

    url: Annotated[str, RedisUrl()] = ""


class Worker(Section):
    """The recovery worker."""

    slice: Annotated[float, Seconds("100ms", "1m")] = 5.0
    concurrency: Annotated[int, Count(1, 64)] = 1
    ca_bundle: Annotated[
        str | None,
        Line("the path of a PEM file or directory of certificates", 500),
        Field(description="default: the authorities of certifi"),
    ] = None


class Sweeps(Section):
    """How often beat sends each sweep."""

    promote: Annotated[float, Seconds("1s", "1h")] = 5.0
    rescue: Annotated[float, Seconds("1s", "1h")] = 10.0
    sources: Annotated[float, Seconds("1s", "1h")] = 5.0
    watch: Annotated[float, Seconds("1s", "1h")] = 30.0
    prune: Annotated[float, Seconds("1m", "1d")] = 3600.0


class Prune(Section):
    """How long completed work is kept. SQS may redeliver for 15 days: an identity that is forgotten earlier would count twice."""

    keep: Annotated[float, Seconds("15d", "3650d")] = 30 * 86400.0


def is_queue(value: str) -> bool:
    """Tell whether `value` is the name of a standard or FIFO queue."""
    return len(value) <= 80 and re.fullmatch(rf"{QUEUE_NAME}(\.fifo)?", value, re.ASCII) is not None  # noqa: PLR2004
