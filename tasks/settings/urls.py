"""The types of URLs in redrive.toml. A URL is shown without its credentials; one host has one name."""

from __future__ import annotations

import ipaddress
import re
import socket
from contextlib import suppress
from typing import Annotated
from urllib.parse import SplitResult, unquote, urlsplit

from pydantic import AfterValidator
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError

from tasks.dlq.secrets.names import MASK, masked_query
from tasks.settings.values import Display

#: This machine: 127.0.0.0/8 in all spellings, ::1, 0.0.0.0 and *.localhost.
LOOPBACK = "127.0.0.1"
_MAX_LENGTH = 2000
_HOST = re.compile(r"[A-Za-z0-9._-]+", re.ASCII)  # kombu loses the brackets of an IPv6 address


def masked(url: str) -> str:
    """Return `url` without user, password and secret query values. It need not be well formed."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        return MASK if "@" in url else url
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    # A raw "/", "?" or "#" in a password ends the authority too early: what looks like a port may be its beginning.
    if "@" in authority or ("@" in rest and ":" in authority):
        rest = f"{MASK}@{rest.rpartition('@')[2]}"
    return scheme + separator + masked_query(rest)


def canonical_host(host: str) -> str:
    """Return one name for all spellings of a host (lower case, without brackets). Nothing is looked up."""
    name = host.removesuffix(".")
    if name == "localhost" or name.endswith(".localhost"):
        return LOOPBACK
    with suppress(OSError, ValueError):  # not an address
        found = ipaddress.ip_address(name if ":" in name else socket.inet_aton(name))  # inet_aton also reads 127.1
        address = getattr(found, "ipv4_mapped", None) or found
        return LOOPBACK if address.is_loopback or address.is_unspecified else str(address)
    return name


def split_url(url: str) -> SplitResult:
    """Return the parts of a URL. Raises ValueError without a message: a message could repeat a part of a password."""
    if len(url) <= _MAX_LENGTH and url.isprintable() and " " not in url:
        with suppress(ValueError):
            parts = urlsplit(url)
            if parts.port != 0:
                return parts
    raise ValueError


def check_http(url: str) -> str:
    """Return an http URL without credentials and query. Raises ValueError."""
    parts = split_url(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or "@" in url or parts.query:
        raise ValueError
    return url


def _check_ledger(url: str) -> str:
    """Return a database's URL as SQLAlchemy takes it, with the PostgreSQL driver that Redrive installs."""
    scheme = split_url(url).scheme
    if scheme in {"postgres", "postgresql"}:
        url = "postgresql+psycopg" + url[len(scheme) :]
    try:
        parsed = make_url(url)
    except ArgumentError:
        raise ValueError from None
    is_file = parsed.drivername in {"sqlite", "sqlite+pysqlite"} and parsed.database not in {None, "", ":memory:"}
    if not is_file and parsed.drivername != "postgresql+psycopg":
        raise ValueError
    return url


def _check_broker(url: str) -> str:
    parts = split_url(url)
    host = parts.netloc.rpartition("@")[2]
    credentials = (unquote(parts.username or ""), unquote(parts.password or ""))
    if (
        not url.startswith("sqs://")
        or parts.path.strip("/")
        or parts.query
        or parts.fragment
        or (host and not _HOST.fullmatch(re.sub(r":[0-9]{1,5}$", "", host)))
        or any(credentials) != all(credentials)
    ):
        raise ValueError
    return url


def _check_redis(url: str) -> str:
    if url and (split_url(url).scheme not in {"redis", "rediss"} or not split_url(url).hostname):
        raise ValueError
    return url


def _display(allowed: str) -> Display:
    return Display(allowed, show=masked, secret=True)


HttpUrl = Annotated[
    str, AfterValidator(check_http), _display("an http:// or https:// URL with a host and without user and password")
]
LedgerUrl = Annotated[
    str, AfterValidator(_check_ledger), _display('"sqlite:///FILE" or "postgresql://USER:PASSWORD@HOST/DATABASE"')
]
BrokerUrl = Annotated[
    str,
    AfterValidator(_check_broker),
    _display(
        '"sqs://" (AWS, credentials from the usual places), "sqs://HOST:PORT" or "sqs://KEY:SECRET@HOST:PORT" '
        '(reserved characters percent-encoded, "/" as %2F)'
    ),
]
RedisUrl = Annotated[str, AfterValidator(_check_redis), _display('"redis://HOST:PORT/0", "rediss://…", or "" for none')]
