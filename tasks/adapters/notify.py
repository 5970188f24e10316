"""Slack and a hundred other services, by Apprise URLs: slack://…, mailto://…, json://…  (https://appriseit.com/services/)."""

from __future__ import annotations

import logging
import threading
import warnings
from typing import TYPE_CHECKING

import apprise
from apprise.utils.parse import parse_urls

from tasks.dlq.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tasks.dlq.alerts.alert import Alert

log = logging.getLogger(__name__)
logging.getLogger("apprise").setLevel(logging.WARNING)  # at DEBUG it logs whole URLs, with their tokens

_TYPES = {
    "failure_group": apprise.NotifyType.FAILURE,
    "burst": apprise.NotifyType.WARNING,
    "route_paused": apprise.NotifyType.FAILURE,
    "breaker_open": apprise.NotifyType.FAILURE,
}


def apprise_sinks(urls: str | Sequence[str], *, origin: str) -> tuple[AppriseSink, ...]:
    """Return one sink for each Apprise URL, so that one that is down is asked again without repeating to the others.

    Args:
        urls: URLs, or one text with several, separated by blanks, commas or line ends.
        origin: where they come from, for errors: the environment variable's name.

    Raises:
        ConfigError: Apprise does not take one of them. Only its scheme is told: the rest holds its secrets.
    """
    sinks = []
    for number, url in enumerate(parse_urls(urls), start=1):  # type: ignore[no-untyped-call]
        scheme = url.partition("://")[0].lower() if "://" in url else ""
        asset = apprise.AppriseAsset(app_id="Redrive", app_desc="Redrive", async_mode=False, storage_mode="memory")
        service = apprise.Apprise(asset=asset)
        if not scheme or not _taken(service, url):
            shown = f"{scheme}://…" if scheme.isalnum() else "no URL"
            raise ConfigError(
                f"{origin}: Apprise does not take notification URL {number} ({shown})",
                hint=f"how it is written: https://appriseit.com/services/{scheme if scheme.isalnum() else ''}",
            )
        sinks.append(AppriseSink(service, name=f"{scheme}-{number}"))
    return tuple(sinks)


def _taken(service: apprise.Apprise, url: str) -> bool:
    with warnings.catch_warnings():
        # The first URL makes Apprise import all its plugins; the one for PGP asks for a module that Python 3.13 has dropped.
        warnings.filterwarnings("ignore", "'imghdr' is deprecated", DeprecationWarning)
        return service.add(url)


class AppriseSink:
    """Sends alerts to one service, as text. `name` is the URL's scheme and place; the URL itself is never shown."""

    def __init__(self, service: apprise.Apprise, *, name: str, patience: float = 10.0) -> None:
        self.name = name
        self._service = service
        self._patience = patience
        self._thread: threading.Thread | None = None

    def send(self, alert: Alert) -> bool:
        """Send the alert; give up on waiting after `patience` seconds. Apprise's own timeouts are per read, not in total."""
        if self._thread is not None and self._thread.is_alive():
            return False  # still at the last one: never more than one hanging thread
        taken: list[bool] = []
        self._thread = threading.Thread(target=self._notify, args=(alert, taken), name=f"redrive-{self.name}", daemon=True)
        self._thread.start()
        self._thread.join(self._patience)
        if not taken:
            log.warning("notification by %s did not end within %g s", self.name, self._patience)
        return any(taken)

    def _notify(self, alert: Alert, taken: list[bool]) -> None:
        kind = apprise.NotifyType.SUCCESS if alert.over else _TYPES.get(alert.kind, apprise.NotifyType.WARNING)
        try:
            delivered = bool(
                self._service.notify(
                    title=f"Redrive · {alert.title}", body=alert.text, notify_type=kind, body_format=apprise.NotifyFormat.TEXT
                )
            )
        except Exception as error:  # noqa: BLE001 - a hundred plugins: their messages may hold the URL, their types do not
            log.warning("notification by %s failed: %s", self.name, type(error).__name__)
            delivered = False
        taken.append(delivered)
        if not delivered:
            log.warning("notification by %s was not taken", self.name)
