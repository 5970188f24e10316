"""Which names mean a secret: `?code=…` in a URL, `"apiKey": …` in a body, `password=…` in a log event.

Secrets belong in the environment, but some APIs accept them only in the URL, a header or the body.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_plus

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MASK = "***"
#: `code` is the key of an Azure function; `sas` and `sig` are those of Azure Storage.
_SECRET = re.compile(
    r".*(?:key|token|secret|passw|passphrase|pwd|auth|signature|credential|cookie).*"
    r"|(?:.*[_.-])?(?:sig|hmac|jwt|otp|pin|pass|pw|creds?|dsn)"
    r"|code|sas",
    re.IGNORECASE | re.DOTALL,
)
#: The names above are too broad for librdkafka: `sasl.oauthbearer.scope` contains "auth", and `ssl.key.location` is a path.
_SECRET_PROPERTY = re.compile(r"password|passphrase|secret|ssl\.key\.pem|private\.key\.pem|oauthbearer\.config")
_PLAIN_HEADERS = frozenset({"accept", "content-type", "user-agent"})
_QUERY = re.compile(r"([?&])([^=&#]*)=([^&#]*)")
#: A variable of a template: not a secret itself.
_VARIABLE = re.compile(r"\{[^{}]*\}")


def is_secret(name: str) -> bool:
    """Tell whether a value with this name is probably a secret. Upper and lower case are the same."""
    return _SECRET.fullmatch(name) is not None


def is_secret_property(name: str) -> bool:
    """Tell whether a property of librdkafka, such as "sasl.password", is a secret."""
    return _SECRET_PROPERTY.search(name) is not None


def masked_query(url: str) -> str:
    """Return a URL, or a URL template, with the secrets in its query masked. It need not be well formed."""

    def mask(found: re.Match[str]) -> str:
        return f"{found[1]}{found[2]}={MASK}" if _hides(found[2], found[3]) else found[0]

    return _QUERY.sub(mask, url)


def query_secrets(url: str) -> Iterator[str]:
    """Yield the secrets in the query of a URL, encoded and decoded."""
    for _, name, value in _QUERY.findall(url):
        if _hides(name, value):
            yield from {value, unquote_plus(value)}


def masked_document(document: Any) -> Any:
    """Return a JSON document with its secrets masked."""
    match document:
        case dict():
            return {
                name: MASK if is_secret(name) and not _is_variable(value) else masked_document(value)
                for name, value in document.items()
            }
        case list():
            return [masked_document(item) for item in document]
    return document


def header_secrets(headers: Mapping[str, str]) -> Iterator[str]:
    """Yield the values of all headers, except those that hold no secret in any request."""
    yield from (value for name, value in headers.items() if name.lower() not in _PLAIN_HEADERS)


def document_secrets(document: Any) -> Iterator[str]:
    """Yield the secrets in a JSON document."""
    match document:
        case dict():
            for name, value in document.items():
                if is_secret(name) and isinstance(value, str) and not _is_variable(value):
                    yield value
                else:
                    yield from document_secrets(value)
        case list():
            for item in document:
                yield from document_secrets(item)


def _hides(name: str, value: str) -> bool:
    return is_secret(unquote_plus(name)) and not _is_variable(value)


def _is_variable(value: Any) -> bool:
    return isinstance(value, str) and _VARIABLE.fullmatch(value) is not None
