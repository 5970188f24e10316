"""The tables of redrive.toml with fixed names, such as `[broker]`. Durations are seconds, sizes bytes."""

from collections.abc import Iterator
from functools import cached_property
from typing import Annotated, Any
from urllib.parse import unquote, urlsplit

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from tasks.settings.keys import dotted, keys_in
from tasks.settings.urls import BrokerUrl, HttpUrl, LedgerUrl, RedisUrl
from tasks.settings.values import DAY, HOUR, MINUTE, Display, Flag, PrintableText, Seconds, VariableName, WholeNumber

#: As SQS has it: https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-queues.html
QUEUE_NAME = r"[A-Za-z0-9_-]{1,80}"
QueueName = Annotated[str, StringConstraints(pattern=f"^{QUEUE_NAME}$"), Display("a queue's name")]
QueuePrefix = Annotated[str, StringConstraints(pattern="^[A-Za-z0-9_-]{0,40}$"), Display("at most 40 of A-Z a-z 0-9 - _")]
Region = Annotated[str, StringConstraints(pattern="^[a-z0-9-]{1,32}$"), Display('an AWS region, such as "us-east-1"')]
SentryEnvironment = Annotated[PrintableText, Field(max_length=64), Display("one line of at most 64 characters")]
CertificatePath = Annotated[PrintableText, Field(max_length=500), Display("the path of a PEM file or directory of certificates")]


class Section(BaseModel):
    """A table of redrive.toml. It is frozen, refuses unknown keys, and shows no secret in its repr."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        return ((dotted(key.path), key.shown) for key in keys_in(self))


class Ledger(Section):
    """The database with all dead letters and jobs."""

    url: LedgerUrl = Field(description="default: ledger.db under state_dir")


class Broker(Section):
    """SQS, for wake-ups and for the sources that name no endpoint of their own."""

    url: BrokerUrl = "sqs://"
    tls: Flag | None = Field(default=None, description="default: true, unless the URL has a port other than 443")
    region: Region = "us-east-1"
    queue_prefix: QueuePrefix = ""
    visibility_timeout: Seconds | None = Field(
        default=None, ge=30, le=12 * HOUR, description="default: 300s, or more where a slice and the longest lease need it"
    )
    polling_interval: Seconds = Field(default=0.05, ge=0.01, le=1)
    # Celery's curl client gives up after 20 s, and kombu adds the time to connect to the wait.
    wait_time: WholeNumber = Field(default=10, ge=0, le=15)
    manage_queues: Flag = True
    max_receives: WholeNumber = Field(default=5, ge=1, le=1000)
    predefined_queues: dict[QueueName, HttpUrl] = Field(default_factory=dict)

    @property
    def creates_queues(self) -> bool:
        """Whether Redrive creates queues that are missing."""
        return self.manage_queues and not self.predefined_queues

    @property
    def is_secure(self) -> bool:
        """Whether the broker is called by https: kombu's transport option of this name, and boto3's endpoint."""
        return urlsplit(self.url).port in {None, 443} if self.tls is None else self.tls

    @cached_property
    def endpoint_url(self) -> str | None:
        """The endpoint that kombu makes of the URL, for boto3; None for AWS itself."""
        host = urlsplit(self.url).netloc.rpartition("@")[2]
        return f"{'https' if self.is_secure else 'http'}://{host.lower()}" if host else None

    @property
    def access_key_id(self) -> str | None:
        """The key in the URL; None: boto3 looks in environment, profile and instance role."""
        return unquote(urlsplit(self.url).username or "") or None

    @property
    def secret_access_key(self) -> str | None:
        """The secret in the URL; None as for the key."""
        return unquote(urlsplit(self.url).password or "") or None


class Burst(Section):
    """How many failed calls within how long raise an alert."""

    failures: WholeNumber = Field(default=20, ge=1, le=1_000_000)
    within: Seconds = Field(default=300.0, ge=10, le=DAY)


class Alerts(Section):
    """Where alerts go. Addresses and the DSN are secrets: these keys name the variables that hold them."""

    notify_env: VariableName = "REDRIVE_NOTIFY"
    sentry_dsn_env: VariableName = "SENTRY_DSN"
    sentry_environment: SentryEnvironment = "production"
    burst: Burst = Burst()


class Monitor(Section):
    """The side channel for Flower. Redrive works without it."""

    url: RedisUrl = ""


class Worker(Section):
    """The recovery worker."""

    slice: Seconds = Field(default=5.0, ge=0.1, le=MINUTE)
    concurrency: WholeNumber = Field(default=1, ge=1, le=64)
    ca_bundle: CertificatePath | None = Field(default=None, description="default: the authorities of certifi")


class Sweeps(Section):
    """How often beat sends each sweep."""

    promote: Seconds = Field(default=5.0, ge=1, le=HOUR)
    rescue: Seconds = Field(default=10.0, ge=1, le=HOUR)
    sources: Seconds = Field(default=5.0, ge=1, le=HOUR)
    watch: Seconds = Field(default=30.0, ge=1, le=HOUR)
    prune: Seconds = Field(default=3600.0, ge=MINUTE, le=DAY)


class Prune(Section):
    """How long completed work is kept. SQS may redeliver for 15 days: a message forgotten earlier would count twice."""

    keep: Seconds = Field(default=30 * DAY, ge=15 * DAY, le=3650 * DAY)
