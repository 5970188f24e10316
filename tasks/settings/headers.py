"""The static headers of a route: what a person may set, and what is Redrive's or the connection's own."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from tasks.settings.rules import Rule
from tasks.settings.urls import MASK

_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}", re.ASCII)  # RFC 9110 section 5.6.2, token
_MOST = 4000
#: RFC 9110 section 7.6.1 and RFC 9112: they belong to one connection, and requests writes those that are needed.
_CONNECTION = frozenset({
    "connection", "content-length", "expect", "host", "keep-alive", "proxy-authenticate", "proxy-authorization",
    "proxy-connection", "te", "trailer", "transfer-encoding", "upgrade",
})  # fmt: skip


@dataclass(frozen=True)
class HeaderName(Rule):
    """The name of a header that a route may set."""

    meaning: str = "the name of a header that is neither the connection's, nor Redrive-*, nor Authorization"

    def parse(self, value: Any) -> str:
        """Return the name unchanged."""
        if not isinstance(value, str) or not _NAME.fullmatch(value):
            raise ValueError("must be a header's name: letters, digits and dashes")
        name = value.lower()
        if name == "authorization":
            raise ValueError("must not stand in a file: put the token in the environment and name its variable in bearer_env")
        if name in _CONNECTION or name.startswith("redrive-"):
            raise ValueError("must not be set: Redrive and the connection write this header themselves")
        return value


@dataclass(frozen=True)
class HeaderValue(Rule):
    """The value of a header; never shown, since API keys travel in headers."""

    meaning: str = f'at most {_MOST} printable Latin-1 characters without line breaks or outer blanks; "" leaves the header out'

    def parse(self, value: Any) -> str:
        """Return the value unchanged."""
        if not isinstance(value, str) or len(value) > _MOST or value != value.strip():
            raise self.refusal()
        if not all(char == "\t" or (char.isprintable() and char <= "\xff") for char in value):
            raise self.refusal()
        return value

    def show(self, value: str) -> str:
        """Return a mask."""
        return MASK if value else value

    def echo(self, value: Any) -> str | None:  # noqa: ARG002
        """Return nothing: it may be an API key."""
        return None


def merged(defaults: dict[str, str], given: dict[str, str]) -> dict[str, str]:
    """Return the defaults with the given headers in their place; names compare without case, an empty value leaves out."""
    names = {name.lower() for name in given}
    kept = {name: value for name, value in defaults.items() if name.lower() not in names}
    return kept | {name: value for name, value in given.items() if value}
