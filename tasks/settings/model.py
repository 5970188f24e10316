"""The whole of redrive.toml as one frozen model. `tasks.settings.load` makes it."""

import re
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Self, TypeVar

from pydantic import ConfigDict, Field, PrivateAttr, model_validator

from tasks.dlq.calls.limits import Limits
from tasks.dlq.calls.route import Route
from tasks.dlq.errors import ConfigError, UnknownRoute
from tasks.dlq.text import show_value
from tasks.names import OWN_SOURCES
from tasks.settings.credentials import secrets_in_addresses, secrets_in_dsn, secrets_in_routes, secrets_in_urls
from tasks.settings.environment import Input
from tasks.settings.keys import dotted, keys_in, suggestion
from tasks.settings.mappings import MappingTable
from tasks.settings.routes import RouteTable
from tasks.settings.sections import Alerts, Broker, Ledger, Monitor, Prune, Section, Sweeps, Worker
from tasks.settings.sources import AnySource
from tasks.settings.values import Display, KeyPath, Name, PrintableText, Refusal, format_duration

Table = TypeVar("Table", bound=MappingTable)

_TOKEN = re.compile(r"[!-~]{1,8192}", re.ASCII)
_BEFORE_URL = re.compile(r"[\s,]+(?=[A-Za-z][A-Za-z0-9+.-]*://)")


class Settings(Section):
    """Everything that a person can set. Durations are seconds, sizes bytes."""

    model_config = ConfigDict(validate_by_name=True)

    state_dir: Annotated[PrintableText, Field(max_length=500), Display("a directory")] = ".redrive"
    ledger: Ledger
    broker: Broker = Broker()
    route_tables: dict[Name, RouteTable] = Field(default_factory=dict, alias="routes")
    sources: dict[Name, AnySource] = Field(default_factory=dict)
    alerts: Alerts = Alerts()
    monitor: Monitor = Monitor()
    worker: Worker = Worker()
    sweeps: Sweeps = Sweeps()
    prune: Prune = Prune()

    _input: Input = PrivateAttr(default_factory=Input)

    @model_validator(mode="before")
    @classmethod
    def _put_ledger_into_state_dir(cls, values: Any) -> Any:
        if isinstance(values, dict) and isinstance(ledger := values.get("ledger", {}), dict):
            state_dir = values.get("state_dir", cls.model_fields["state_dir"].default)
            values = {**values, "ledger": {"url": f"sqlite:///{state_dir}/ledger.db", **ledger}}
        return values

    @model_validator(mode="after")
    def _check_conflicts(self) -> Self:
        if found := list(self._conflicts()):
            raise Refusal(*found)
        return self

    def _conflicts(self) -> Iterator[tuple[KeyPath, str]]:
        for name, source in self.sources.items():
            if name in OWN_SOURCES:
                yield ("sources", name), "must have another name: Redrive's own source has this one"
            yield from ((("sources", name, *path), clause) for path, clause in source.conflicts(self.routes))
        tables: list[type[MappingTable]] = list(dict.fromkeys(type(source) for source in self.sources.values()))
        for table in tables:
            yield from table.find_conflicts(self.sources_of(table), self.broker)
        if clause := self.limits.refusal():
            yield ("broker", "visibility_timeout"), clause

    @cached_property
    def routes(self) -> Mapping[str, Route]:
        """The routes by name, as the domain takes them."""
        return MappingProxyType({name: table.build(name) for name, table in self.route_tables.items()})

    @cached_property
    def limits(self) -> Limits:
        """All time limits."""
        return Limits(slice=self.worker.slice, routes=self.routes, visibility=self.broker.visibility_timeout)

    def route(self, name: str) -> Route:
        """Return the route of this name. Raises UnknownRoute."""
        try:
            return self.routes[name]
        except KeyError:
            hint = suggestion(name, self.routes) or f"routes in {self.source_file}: {', '.join(sorted(self.routes)) or 'none'}"
            raise UnknownRoute(f"there is no route {show_value(name)}", hint=hint) from None

    @property
    def state_path(self) -> Path:
        """The state directory."""
        return Path(self.state_dir)

    @property
    def visibility_timeout(self) -> int:
        """Seconds for which SQS hides a wake-up: longer than a worker can be busy with one."""
        return self.limits.visibility_timeout

    def sources_of(self, table: type[Table]) -> dict[str, Table]:
        """Return the sources of one kind, given by its table."""
        return {name: source for name, source in self.sources.items() if isinstance(source, table)}

    # --- where values came from --------------------------------------------------------------------------------------

    @property
    def file(self) -> str | None:
        """The file that was read; None if there was none."""
        return self._input.file

    @property
    def source_file(self) -> str:
        """The file that was read, or would be, for messages."""
        return self.file or f"{Path('redrive.toml').absolute()} (not there)"

    @property
    def variables(self) -> list[str]:
        """The environment variables that set a value."""
        return list(self._input.variables.values())

    def is_set(self, *path: str) -> bool:
        """Tell whether the file or the environment sets the key at `path`."""
        return self._input.origin(path) != "default"

    def describe(self) -> dict[str, Any]:
        """Return every setting with its origin, JSON-ready: durations as people write them, secrets masked.

        `{"file": "redrive.toml" | null, "settings": {"ledger.url": {"value": …, "from": "file" | "default" | "REDRIVE_…"}}}`
        """
        found = {dotted(key.path): {"value": key.shown, "from": self._input.origin(key.path)} for key in keys_in(self)}
        found["broker.visibility_timeout"]["value"] = format_duration(self.visibility_timeout)
        found["broker.tls"]["value"] = self.broker.is_secure
        return {"file": self.file, "settings": found}

    def remember(self, read: Input) -> None:
        """Keep the input: where the values came from, and the secrets of the environment."""
        self._input = read

    # --- secrets from the environment --------------------------------------------------------------------------------

    @property
    def secret_variables(self) -> list[str]:
        """The environment variables that keys such as `bearer_env` name."""
        names = [self.alerts.notify_env, self.alerts.sentry_dsn_env]
        names += [table.bearer_env for table in self.route_tables.values() if table.bearer_env]
        return names + [variable for source in self.sources.values() for variable in source.secret_variables.values()]

    def tokens(self) -> dict[str, str]:
        """Return the bearer token of each route that has one.

        Raises:
            ConfigError: a variable is not set, or does not hold a token. The message names it and never shows its value.
        """
        variables = {name: table.bearer_env for name, table in self.route_tables.items() if table.bearer_env}
        tokens = {name: self._input.environ.get(variable, "") for name, variable in variables.items()}
        wrong = {name: token for name, token in tokens.items() if not _TOKEN.fullmatch(token)}
        if wrong:
            lines = [f"{variables[name]} {_fault(token)}: routes.{name}.bearer_env names it" for name, token in wrong.items()]
            raise ConfigError("\n".join(lines), hint="set the variable in the environment of the worker")
        return tokens

    def source_secrets(self, name: str) -> dict[str, str]:
        """Return the secrets of a source, by the key that names their variable.

        Raises:
            ConfigError: a variable is not set. The message names it.
        """
        variables, environ = self.sources[name].secret_variables, self._input.environ
        if absent := {key: variable for key, variable in variables.items() if not environ.get(variable)}:
            lines = [f"{variable} is not set: sources.{name}.{key} names it" for key, variable in absent.items()]
            raise ConfigError("\n".join(lines), hint="set the variable in the environment of the intake")
        return {key: environ[variable] for key, variable in variables.items()}

    def sentry_dsn(self) -> str:
        """Return Sentry's DSN from the environment; empty if there is none. Raises ConfigError."""
        dsn = self._input.environ.get(self.alerts.sentry_dsn_env, "").strip()
        if dsn and not re.fullmatch(r"https?://[^\s@/]+@[^\s/]+/\S+", dsn):
            hint = "it looks like https://KEY@HOST/PROJECT; unset it to use no Sentry"
            raise ConfigError(f"{self.alerts.sentry_dsn_env} does not hold a Sentry DSN", hint=hint)
        return dsn

    def notify_urls(self) -> tuple[str, ...]:
        """Return the Apprise URLs from the environment. Blanks or commas separate them there. Raises ConfigError."""
        text = self._input.environ.get(self.alerts.notify_env, "").strip()
        urls = tuple(_BEFORE_URL.split(text)) if text else ()
        if any(not re.match(r"[A-Za-z][A-Za-z0-9+.-]*://\S", url) for url in urls):
            hint = "write slack://…, mailto://…, json://… with blanks or commas between"
            raise ConfigError(f"{self.alerts.notify_env} holds something that is not an Apprise URL", hint=hint)
        return urls

    def secrets(self) -> tuple[str, ...]:
        """Return every secret that this process knows: what logs must never show. Checks nothing."""
        in_environment = {name: self._input.environ.get(name, "") for name in self.secret_variables}
        found = [
            *in_environment.values(),
            self.broker.secret_access_key or "",
            *secrets_in_routes(self.route_tables.values()),
            *secrets_in_urls([self.ledger.url, self.broker.url, self.monitor.url]),
            *secrets_in_dsn(in_environment[self.alerts.sentry_dsn_env]),
            *secrets_in_addresses(in_environment[self.alerts.notify_env]),
        ]
        return tuple(dict.fromkeys(filter(None, found)))


def _fault(token: str) -> str:
    return "holds a blank, a line break or a character beyond ASCII" if token else "is not set"
