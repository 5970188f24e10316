"""The headers of a route: which names and values redrive.toml may set."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, StringConstraints

from tasks.dlq.secrets.names import MASK
from tasks.settings.values import Display, Refusal

#: RFC 9110 section 7.6.1 and RFC 9112: they belong to one connection, and requests writes those that are needed.
_CONNECTION = frozenset({
    "connection", "content-length", "expect", "host", "keep-alive", "proxy-authenticate", "proxy-authorization",
    "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade",
})  # fmt: skip


def _refuse_reserved(name: str) -> str:
    lower = name.lower()
    if lower == "authorization":
        raise Refusal(((), "must not be in a file: put the token into the environment and name its variable in bearer_env"))
    if lower in _CONNECTION or lower.startswith("redrive-"):
        raise Refusal(((), "must not be set: Redrive and the connection write this header themselves"))
    return name


def _check_value(value: str) -> str:
    if value != value.strip() or not all(char == "\t" or (char.isprintable() and char <= "\xff") for char in value):
        raise ValueError
    return value


#: RFC 9110 section 5.6.2: a token.
HeaderName = Annotated[
    str,
    StringConstraints(pattern=r"^[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}$"),
    AfterValidator(_refuse_reserved),
    Display("a header's name: letters, digits and dashes"),
]
#: Never shown: API keys are sent in headers.
HeaderValue = Annotated[
    str,
    StringConstraints(max_length=4000),
    AfterValidator(_check_value),
    Display(
        'at most 4000 printable Latin-1 characters without line breaks or outer blanks; "" leaves the header out',
        show=lambda value: MASK if value else value,
        secret=True,
    ),
]


def merge_headers(defaults: dict[str, str], given: dict[str, str]) -> dict[str, str]:
    """Return the defaults, overridden by the given headers. Names have no case; an empty value leaves a header out."""
    names = {name.lower() for name in given}
    kept = {name: value for name, value in defaults.items() if name.lower() not in names}
    return kept | {name: value for name, value in given.items() if value}
