"""The whole of redrive.toml as one frozen model. `tasks.settings.load` makes it."""

import re
import sys
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Self

from pydantic import ConfigDict, Field, PrivateAttr, model_validator

from tasks.dlq.calls.limits import Limits
from tasks.dlq.calls.route import Route
from tasks.dlq.errors import ConfigError, UnknownRoute
from tasks.dlq.parameters import shown
from tasks.names import OWN_SOURCES
from tasks.settings import directory
from tasks.settings.credentials import secrets_of
from tasks.settings.description import Origins, describe
from tasks.settings.keys import suggestion
from tasks.settings.queues import conflicts
from tasks.settings.routes import Name, RouteTable
from tasks.settings.rules import Line, duration
from tasks.settings.sections import Alerts, Broker, Conflict, Ledger, Monitor, Prune, Section, Sweeps, Worker
from tasks.settings.sources import AnySource, KafkaSource, topic_conflicts

#: What is submitted by Celery, and by `redrive send`.
_TOKEN = re.compile(r"[!-~]{1,8192}", re.ASCII)
_ADDRESSES = re.compile(r"[\s,]+(?=[A-Za-z][A-Za-z0-9+.-]*://)")


class Settings(Section):
    """Everything that a person can set. Durations are seconds, sizes bytes."""

    model_config = ConfigDict(validate_by_name=True)

    state_dir: Annotated[str, Line("a directory", 500)] = ".redrive"
    ledger: Ledger
    broker: Broker = Broker()
    route_tables: dict[Name, RouteTable] = Field(default_factory=dict, alias="routes")
    sources: dict[Name, AnySource] = Field(default_factory=dict)
    alerts: Alerts = Alerts()
    monitor: Monitor = Monitor()
    worker: Worker = Worker()
    sweeps: Sweeps = Sweeps()
    prune: Prune = Prune()

    _origins: Origins = PrivateAttr(default_factory=Origins)
    _environ: Mapping[str, str] = PrivateAttr(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _ledger_in_state_dir(cls, values: Any) -> Any:
        """Put the ledger into the state directory when nobody says where it is."""
        if isinstance(values, dict) and isinstance(ledger := values.get("ledger", {}), dict):
            state_dir = values.get("state_dir", cls.model_fields["state_dir"].default)
            values = {**values, "ledger": {"url": f"sqlite:///{state_dir}/ledger.db", **ledger}}
        return values

    @model_validator(mode="after")
    def _parts_agree(self) -> Self:
        found: list[tuple[tuple[str, ...], str]] = []
        for name, source in self.sources.items():
            if name in OWN_SOURCES:
                found.append((("sources", name), "must have another name: Redrive calls what it is handed itself so"))
            found += [(("sources", name, *path), clause) for path, clause in source.disagreements(self.routes)]
        found += conflicts(self.sources, self.broker)
        found += topic_conflicts(self.sources)
        if clause := self.limits.refusal():
            found.append((("broker", "visibility_timeout"), clause))
        if found:
            raise Conflict(*found)
        return self

    @cached_property
    def routes(self) -> Mapping[str, Route]:
        """The routes by name, as the domain takes them."""
        return MappingProxyType({name: table.build(name) for name, table in self.route_tables.items()})

    @cached_property
    def limits(self) -> Limits:
        """How long things may take."""
        return Limits(slice=self.worker.slice, routes=self.routes, visibility=self.broker.visibility_timeout)

    def route(self, name: str) -> Route:
        """Return the route of this name. Raises UnknownRoute."""
        try:
            return self.routes[name]
        except KeyError:
            hint = suggestion(name, self.routes) or f"routes in {self.source_file}: {', '.join(sorted(self.routes)) or 'none'}"
            raise UnknownRoute(f"there is no route {shown(name)}", hint=hint) from None

    @property
    def state_path(self) -> Path:
        """The state directory."""
        return Path(self.state_dir)

    def make_state_dir(self) -> None:
        """Make the state directory where it is missing; end the process with a message when that cannot be."""
        try:
            directory.make(self.state_path)
        except ConfigError as error:
            sys.stderr.write(f"redrive: {error.message}\n{error.hint}\n")
            raise SystemExit(error.exit_code) from None

    @property
    def visibility_timeout(self) -> int:
        """Seconds that SQS hides a wake-up: longer than a worker can be busy with one."""
        return self.limits.visibility_timeout

    @property
    def source_file(self) -> str:
        """The file that was read, for messages."""
        return self._origins.file or f"{Path('redrive.toml').absolute()} (not there)"

    def tokens(self) -> dict[str, str]:
        """Return the bearer token of each route that has one, for the process that calls.

        Raises:
            ConfigError: a variable is not set, or does not hold a token. The message names it and never shows it.
        """
        tokens: dict[str, str] = {}
        problems = []
        for name, table in self.route_tables.items():
            if table.bearer_env is None:
                continue
            token = self._environ.get(table.bearer_env, "")
            if _TOKEN.fullmatch(token):
                tokens[name] = token
            else:
                wrong = "holds a blank, a line break or a character beyond ASCII" if token else "is not set"
                problems.append(f"{table.bearer_env} {wrong}: routes.{name}.bearer_env says that it holds the token")
        if problems:
            raise ConfigError("\n".join(problems), hint="set the variable in the environment of the worker")
        return tokens

    @property
    def kafka_sources(self) -> dict[str, KafkaSource]:
        """The Kafka sources by name."""
        return {name: table for name, table in self.sources.items() if isinstance(table, KafkaSource)}

    def kafka_properties(self, name: str) -> dict[str, str]:
        """Return what librdkafka is told for a Kafka source, secrets included. Raises ConfigError when one is not set."""
        return self.kafka_sources[name].librdkafka(name, self._environ)

    def secrets(self) -> tuple[str, ...]:
        """Return every secret that this process knows: what logs must never show. Checks nothing."""
        return tuple(dict.fromkeys(secrets_of(self, self._environ)))

    def sentry_dsn(self) -> str:
        """Return Sentry's DSN from the environment; empty when there is none. Raises ConfigError."""
        dsn = self._environ.get(self.alerts.sentry_dsn_env, "").strip()
        if dsn and not re.fullmatch(r"https?://[^\s@/]+@[^\s/]+/\S+", dsn):
            raise ConfigError(
                f"{self.alerts.sentry_dsn_env} is no Sentry DSN", hint="it looks like https://KEY@HOST/PROJECT; unset it for none"
            )
        return dsn

    def notify_urls(self) -> tuple[str, ...]:
        """Return the Apprise URLs from the environment, separated there by blanks or commas. Raises ConfigError."""
        text = self._environ.get(self.alerts.notify_env, "").strip()
        urls = tuple(_ADDRESSES.split(text)) if text else ()
        if any(not re.match(r"[A-Za-z][A-Za-z0-9+.-]*://\S", url) for url in urls):
            raise ConfigError(
                f"{self.alerts.notify_env} holds something that is no Apprise URL",
                hint="write slack://…, mailto://…, json://… with blanks or commas between",
            )
        return urls

    def describe(self) -> dict[str, Any]:
        """Return every setting with its origin, JSON-ready: durations as people write them, secrets masked.

        `{"file": "redrive.toml" | null, "settings": {"ledger.url": {"value": …, "from": "file" | "default" | "REDRIVE_…"}}}`
        """
        described = describe(self, self._origins)
        described["settings"]["broker.visibility_timeout"]["value"] = duration(self.visibility_timeout)
        described["settings"]["broker.tls"]["value"] = self.broker.is_secure
        return described

    def remember(self, origins: Origins, environ: Mapping[str, str]) -> None:
        """Keep where the values came from, and the environment for the secrets that the settings only name."""
        self._origins, self._environ = origins, environ
