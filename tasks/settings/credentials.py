"""Every secret that a process can know, so that nothing that it writes or sends shows one."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING
from urllib.parse import unquote

from tasks.dlq.secrets.names import document_secrets, header_secrets, query_secrets

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tasks.settings.routes import RouteTable

#: A shorter secret in a file or a URL is not masked: it would be cut out of everything that is logged.
_SHORTEST = 8


def secrets_in_routes(tables: Iterable[RouteTable]) -> Iterator[str]:
    """Yield what is secret in URLs, headers and bodies of routes."""
    for table in tables:
        yield from _long(query_secrets(table.url))
        yield from _long(header_secrets(table.headers))
        if table.body is not None:
            yield from _long(document_secrets(json.loads(table.body)))


def secrets_in_urls(urls: Iterable[str]) -> Iterator[str]:
    """Yield passwords and secret query values of URLs, as they are and decoded."""
    for url in urls:
        if authority := re.match(r"[^:/]+://[^/?#]*:([^/?#]*)@", url):
            yield from _long([authority[1], unquote(authority[1])])
        yield from _long(query_secrets(url))


def secrets_in_dsn(dsn: str) -> Iterator[str]:
    """Yield the key in Sentry's DSN."""
    yield from _long([re.sub(r".*://|@.*", "", dsn)])


def secrets_in_addresses(addresses: str) -> Iterator[str]:
    """Yield what is secret in Apprise's URLs. A service's tokens are in the path, or, without a dot, instead of the host."""
    urls = re.split(r"[\s,]+", addresses)
    yield from secrets_in_urls(urls)
    for url in urls:
        parts = [part for part in re.split(r"[/?#]", url.partition("://")[2]) if "." not in part]
        yield from _long([*parts, *map(unquote, parts)])


def _long(secrets: Iterable[str]) -> Iterator[str]:
    return (secret for secret in secrets if len(secret) >= _SHORTEST)
