"""Slack and a hundred other services, by Apprise URLs: slack://…, mailto://…, json://…  (https://appriseit.com/services/)."""

from __future__ import annotations

import logging
import warnings
from typing import TYPE_CHECKING

import apprise
from apprise.utils.parse import parse_urls

from tasks.dlq.alerts.alert import Severity
from tasks.dlq.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tasks.dlq.alerts.alert import Alert

logging.getLogger("apprise").setLevel(logging.WARNING)  # at DEBUG it logs whole URLs, with their tokens

_TYPES = {Severity.ERROR: apprise.NotifyType.FAILURE, Severity.WARNING: apprise.NotifyType.WARNING}


def apprise_sinks(urls: str | Sequence[str], *, origin: str) -> tuple[AppriseSink, ...]:
    """Return one sink for each Apprise URL. So a service that is down is tried again alone.

    Args:
        urls: URLs, or one text with several, separated by blanks, commas or line ends.
        origin: the environment variable that holds them, for errors.

    Raises:
        ConfigError: Apprise does not accept one of them. The error names its scheme only: the rest holds secrets.
    """
    return tuple(_sink(url, number, origin) for number, url in enumerate(parse_urls(urls), start=1))  # type: ignore[no-untyped-call]


def _sink(url: str, number: int, origin: str) -> AppriseSink:
    scheme = url.partition("://")[0].lower() if "://" in url else ""
    asset = apprise.AppriseAsset(app_id="Redrive", app_desc="Redrive", async_mode=False, storage_mode="memory")
    service = apprise.Apprise(asset=asset)
    with warnings.catch_warnings():
        # The first URL makes Apprise import all plugins. The one for PGP imports a module that Python 3.13 has removed.
        warnings.filterwarnings("ignore", "'imghdr' is deprecated", DeprecationWarning)
        accepted = scheme.isalnum() and service.add(url)
    if not accepted:
        known = scheme if scheme.isalnum() else ""
        raise ConfigError(
            f"{origin}: Apprise does not accept notification URL {number} ({f'{known}://…' if known else 'no URL'})",
            hint=f"how it is written: https://appriseit.com/services/{known}",
        )
    return AppriseSink(service, name=f"{scheme}-{number}")


class AppriseSink:
    """Sends alerts to one service, as text. `name` is the URL's scheme and place; the URL itself is never shown."""

    def __init__(self, service: apprise.Apprise, *, name: str) -> None:
        self.name = name
        self._service = service

    def send(self, alert: Alert) -> bool:
        return bool(
            self._service.notify(
                title=f"Redrive · {alert.title}",
                body=alert.text,
                notify_type=apprise.NotifyType.SUCCESS if alert.over else _TYPES[alert.severity],
                body_format=apprise.NotifyFormat.TEXT,
            )
        )
