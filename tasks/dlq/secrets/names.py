"""What is a secret by its name: `?code=…` in a URL, `"apiKey": …` in a body.

Secrets belong into the environment, yet some APIs take them nowhere else.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote_plus

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MASK = "***"
#: `code` is the key of an Azure function, `sas` and `sig` those of Azure's storage.
_SECRET = re.compile(
    r".*(?:key|token|secret|passw|passphrase|pwd|auth|signature|credential).*|(?:.*[_.-])?(?:sig|hmac|jwt|otp|pin|pass|pw|creds?)"
    r"|code|sas",
    re.IGNORECASE | re.DOTALL,
)
_PLAIN_HEADERS = frozenset({"accept", "content-type", "user-agent"})
_QUERY = re.compile(r"([?&])([^=&#]*)=([^&#]*)")
#: The place of a parameter, which is no secret itself.
_PLACE = re.compile(r"\{[^{}]*\}")


def is_secret(name: str) -> bool:
    """Tell whether a value of this name looks like a secret; names compare without case."""
    return _SECRET.fullmatch(name) is not None


def masked_query(url: str) -> str:
    """Return a URL, or a template of one, without the values of its query that look like secrets. It need not be well formed."""

    def shown(found: re.Match[str]) -> str:
        return f"{found[1]}{found[2]}={MASK}" if _hides(found[2], found[3]) else found[0]

    return _QUERY.sub(shown, url)


def query_secrets(url: str) -> Iterator[str]:
    """Yield the values of a URL's query that look like secrets, as they stand there and decoded."""
    for _, name, value in _QUERY.findall(url):
        if _hides(name, value):
            yield from {value, unquote_plus(value)}


def masked_document(document: Any) -> Any:
    """Return a JSON document without the values whose names look like secrets."""
    match document:
        case dict():
            return {
                name: MASK if is_secret(name) and not _is_place(value) else masked_document(value)
                for name, value in document.items()
            }
        case list():
            return [masked_document(each) for each in document]
    return document


def header_secrets(headers: Mapping[str, str]) -> Iterator[str]:
    """Yield the values of headers, but of those that every API is sent."""
    yield from (value for name, value in headers.items() if name.lower() not in _PLAIN_HEADERS)


def document_secrets(document: Any) -> Iterator[str]:
    """Yield the texts of a JSON document whose names look like secrets."""
    match document:
        case dict():
            for name, value in document.items():
                if is_secret(name) and isinstance(value, str) and not _is_place(value):
                    yield value
                else:
                    yield from document_secrets(value)
        case list():
            for each in document:
                yield from document_secrets(each)


def _hides(name: str, value: str) -> bool:
    return is_secret(unquote_plus(name)) and not _is_place(value)


def _is_place(value: Any) -> bool:
    return isinstance(value, str) and _PLACE.fullmatch(value) is not None
