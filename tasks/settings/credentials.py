"""Every secret that a process can know, so that nothing that it writes or sends shows one."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING
from urllib.parse import unquote

from tasks.dlq.secrets.names import document_secrets, header_secrets, query_secrets

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tasks.settings.model import Settings
    from tasks.settings.routes import RouteTable

#: Characters of a secret that stands in a file or a URL: a shorter one would be cut out of everything that is logged.
_LEAST = 8


def secrets_of(settings: Settings, environ: Mapping[str, str]) -> Iterator[str]:
    """Yield every secret, as it stands and decoded, some more than once. Checks nothing."""
    variables = [settings.alerts.sentry_dsn_env, settings.alerts.notify_env]
    variables += [table.bearer_env for table in settings.route_tables.values() if table.bearer_env]
    variables += [name for table in settings.kafka_sources.values() for name in table.properties_env.values()]
    yield from filter(None, (environ.get(name, "") for name in variables))
    yield from filter(None, [settings.broker.secret_access_key])
    yield from (each for each in _within(settings, environ) if len(each) >= _LEAST)


def _within(settings: Settings, environ: Mapping[str, str]) -> Iterator[str]:
    """Yield what is secret within URLs and routes."""
    for table in settings.route_tables.values():
        yield from _of_route(table)
    for url in (settings.ledger.url, settings.broker.url, settings.monitor.url):
        yield from _of_url(url)
    dsn = environ.get(settings.alerts.sentry_dsn_env, "")
    yield re.sub(r".*://|@.*", "", dsn)
    for url in re.split(r"[\s,]+", environ.get(settings.alerts.notify_env, "")):
        yield from _of_url(url)
        _, _, rest = url.partition("://")
        # A service's tokens stand in the path, or, without a dot, in the place of the host.
        yield from (each for part in re.split(r"[/?#]", rest) if "." not in part for each in (part, unquote(part)))


def _of_route(table: RouteTable) -> Iterator[str]:
    yield from query_secrets(table.url)
    yield from header_secrets(table.headers)
    if table.body is not None:
        yield from document_secrets(json.loads(table.body))


def _of_url(url: str) -> Iterator[str]:
    """Yield a URL's password and what its query says that looks like a secret; nothing of one that cannot be read."""
    authority = re.match(r"[^:/]+://[^/?#]*:([^/?#]*)@", url)
    if authority:
        yield from {authority[1], unquote(authority[1])}
    yield from query_secrets(url)
