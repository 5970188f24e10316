"""Rules for URLs in redrive.toml, and how a URL is shown without its credentials."""

from __future__ import annotations

import json
import re
from abc import abstractmethod
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, unquote, urlsplit

from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from tasks.dlq.secrets.names import MASK, masked_query
from tasks.settings.rules import MAX_ECHO, Rule

__all__ = ["MASK", "BrokerUrl", "HttpUrl", "LedgerUrl", "RedisUrl", "Url", "masked"]

_MAX_LENGTH = 2000
_HOST = re.compile(r"[A-Za-z0-9._-]+", re.ASCII)  # kombu forgets the brackets of an IPv6 address


def masked(url: str) -> str:
    """Return `url` without user, password and secret-looking query values; also when it is not well formed."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        return MASK if "@" in url else url
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    # A raw "/", "?" or "#" in a password ends the authority too early; what looks like a port may be its beginning.
    if "@" in authority or ("@" in rest and ":" in authority):
        rest = f"{MASK}@{rest.rpartition('@')[2]}"
    return scheme + separator + masked_query(rest)


class Url(Rule):
    """A URL; shown masked."""

    def parse(self, value: Any) -> str:
        """Return the URL."""
        if not isinstance(value, str) or len(value) > _MAX_LENGTH or not value.isprintable() or " " in value:
            raise self.refusal()
        try:
            return self.check(value, urlsplit(value))
        except ValueError as error:
            # urlsplit's own messages hold parts of the URL, maybe of its password.
            raise error if str(error).startswith("must ") else self.refusal() from None

    @abstractmethod
    def check(self, url: str, parts: SplitResult) -> str:
        """Return the URL when it is allowed. Raises ValueError."""

    def show(self, value: str | None) -> str | None:
        """Return the URL without its credentials."""
        return None if value is None else masked(value)

    def echo(self, value: Any) -> str | None:
        """Return the refused URL without its credentials; nothing when it is not plain that it has none."""
        if not isinstance(value, str):
            return super().echo(value)
        text = masked(value)
        return json.dumps(text) if "://" in text and len(text) <= MAX_ECHO else None


@dataclass(frozen=True)
class HttpUrl(Url):
    """An http or https URL, such as a queue's or an endpoint's."""

    meaning: str = "an http:// or https:// URL with a host and without user and password"

    def check(self, url: str, parts: SplitResult) -> str:
        """Return the URL unchanged."""
        if parts.scheme not in {"http", "https"} or not parts.hostname or "@" in url or parts.query or parts.port == 0:
            raise self.refusal()
        return url


@dataclass(frozen=True)
class LedgerUrl(Url):
    """The ledger's database. `postgres://` and `postgresql://` become `postgresql+psycopg://`, the driver that is installed."""

    meaning: str = '"sqlite:///FILE" or "postgresql://USER:PASSWORD@HOST/DATABASE"'

    def check(self, url: str, parts: SplitResult) -> str:
        """Return the URL as SQLAlchemy takes it."""
        if parts.scheme in {"postgres", "postgresql"}:
            url = "postgresql+psycopg" + url[len(parts.scheme) :]
        try:
            parsed = make_url(url)
        except ArgumentError:
            raise self.refusal() from None
        on_file = parsed.drivername in {"sqlite", "sqlite+pysqlite"} and parsed.database not in {None, "", ":memory:"}
        if not on_file and parsed.drivername != "postgresql+psycopg":
            raise self.refusal()
        return url


@dataclass(frozen=True)
class BrokerUrl(Url):
    """SQS: AWS itself, or a server that speaks its protocol."""

    meaning: str = (
        '"sqs://" (AWS, credentials from the usual places), "sqs://HOST:PORT" or "sqs://KEY:SECRET@HOST:PORT" '
        '(reserved characters percent-encoded, "/" as %2F)'
    )

    def check(self, url: str, parts: SplitResult) -> str:
        """Return the URL unchanged."""
        host = parts.netloc.rpartition("@")[2]
        name = re.sub(r":[0-9]{1,5}$", "", host)
        keys = (unquote(parts.username or ""), unquote(parts.password or ""))
        if (
            parts.scheme != "sqs"
            or not url.startswith("sqs://")
            or parts.path.strip("/")
            or parts.query
            or parts.fragment
            or (host and not _HOST.fullmatch(name))
            or any(keys) != all(keys)
            or parts.port == 0
        ):
            raise self.refusal()
        return url


@dataclass(frozen=True)
class RedisUrl(Url):
    """A Redis server, or nothing."""

    meaning: str = '"redis://HOST:PORT/0", "rediss://…", or "" for none'

    def check(self, url: str, parts: SplitResult) -> str:
        """Return the URL unchanged."""
        if url and (parts.scheme not in {"redis", "rediss"} or not parts.hostname or parts.port == 0):
            raise self.refusal()
        return url
