"""The HTTP request of a call, and the secrets in it."""

from __future__ import annotations

import json
from importlib.metadata import version
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import requests
from requests.structures import CaseInsensitiveDict

from tasks.dlq.calls.url import expand, variables
from tasks.dlq.secrets.names import document_secrets, header_secrets, query_secrets

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tasks.dlq.calls.api import SyncRequest
    from tasks.dlq.calls.route import Route

#: Characters that a value under a secret's name must have at least to be masked.
_MIN_SECRET = 8
_USER_AGENT = f"redrive/{version('redrive')}"


def prepare_request(request: SyncRequest, token: str) -> requests.PreparedRequest:
    """Return what is sent for a call. Raises ValueError with a message that contains no secret."""
    route = request.route
    in_url = variables(route.url) if route.body else request.parameters.keys()
    url = expand(route.url, {name: value for name, value in request.parameters.items() if name in in_url})
    body = route.body.render(request.parameters) if route.body else None
    headers = CaseInsensitiveDict({
        "User-Agent": _USER_AGENT,
        **route.headers,
        "Accept-Encoding": "identity",
        "Redrive-Job": str(request.job_id),
        "Redrive-Attempt": str(request.attempt),
        "Redrive-Fence": str(request.fence),
    })  # fmt: skip
    if token:
        headers["Authorization"] = f"Bearer {token}"
    try:
        prepared = requests.Request(route.method, url, headers, data=body).prepare()
    except (ValueError, requests.RequestException) as error:  # their messages contain the header's value
        raise ValueError(f"requests refuses the method or a header ({type(error).__name__})") from None
    host = urlsplit(url).netloc
    if prepared.url != url.replace(host, host.lower(), 1):
        raise ValueError(f"requests would send {prepared.url} instead of {url}")
    return prepared


def secrets_of(route: Route, token: str) -> Iterator[str]:
    """Yield the secrets that the calls of a route contain. The API may repeat them in its answer."""
    yield token
    values = [*header_secrets(route.headers), *query_secrets(route.url)]
    values += document_secrets(json.loads(route.body.text)) if route.body else ()
    yield from (value for value in values if len(value) >= _MIN_SECRET)
