"""Checks that the hosts of the APIs, and the side channel, can be reached."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from tasks.dlq.text import shorten
from tasks.doctor.findings import Finding, State

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tasks.settings import Settings

#: Seconds for one connection. DNS has no timeout here; `examine` limits the whole check.
_TIMEOUT = 3.0
_PORTS = {"http": 80, "https": 443}


def hosts(settings: Settings) -> dict[tuple[str, str, int], list[str]]:
    """Return the routes of each scheme, host and port that calls go to."""
    found: dict[tuple[str, str, int], list[str]] = {}
    for name, route in settings.routes.items():
        parts = urlsplit(route.url)
        found.setdefault((parts.scheme, parts.hostname or "", parts.port or _PORTS[parts.scheme]), []).append(name)
    return found


def check_host(scheme: str, host: str, port: int, routes: Sequence[str], *, ca_bundle: str | None) -> Iterator[Finding]:
    """Connect to an API's host, with TLS for https. Send no request."""
    name, where = f"API {host}", f"{host}:{port} (routes {', '.join(routes)})"
    try:
        with socket.create_connection((host, port), timeout=_TIMEOUT) as plain:
            if scheme == "http":
                yield Finding(name=name, detail=f"{where} takes connections")
                return
            with _context(ca_bundle).wrap_socket(plain, server_hostname=host) as secured:
                yield Finding(name=name, detail=f"{where} takes connections, {secured.version()}")
    except socket.gaierror as error:
        yield _wrong(name, f"{host} is not known: {error.strerror}", "check the route's url and this machine's DNS")
    except ssl.SSLCertVerificationError as error:
        hint = "for a private authority set worker.ca_bundle; else renew the certificate"
        yield _wrong(name, f"{where}: its certificate is refused: {error.verify_message}", hint)
    except OSError as error:
        said = error.strerror or str(error) or type(error).__name__
        yield _wrong(name, f"{where} takes no connection: {said}", "see whether it runs, and whether a firewall is in between")


def _wrong(name: str, detail: str, hint: str) -> Finding:
    return Finding(name=name, state=State.WRONG, detail=detail, hint=hint)


def _context(ca_bundle: str | None) -> ssl.SSLContext:
    """Return a context that verifies as requests does: with certifi's authorities, unless others are given."""
    if ca_bundle is None:
        import certifi

        ca_bundle = certifi.where()
    if Path(ca_bundle).is_dir():
        return ssl.create_default_context(capath=ca_bundle)
    return ssl.create_default_context(cafile=ca_bundle)


def check_side_channel(url: str) -> Iterator[Finding]:
    """Ping Redis."""
    import redis

    try:
        with redis.Redis.from_url(url, socket_timeout=_TIMEOUT, socket_connect_timeout=_TIMEOUT) as client:
            client.ping()
    except (redis.RedisError, OSError, ValueError) as error:
        hint = "Redrive works without it, Flower does not: check monitor.url"
        said = shorten(error)
        yield Finding(name="side channel", state=State.WARNING, detail=f"Redis does not answer: {said}", hint=hint)
    else:
        yield Finding(name="side channel", detail="Redis answers")
