"""Canaries: secrets that are planted everywhere, and how any of them is found again, however it was written down."""

from __future__ import annotations

import base64
import json
import re
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus, unquote

if TYPE_CHECKING:
    from collections.abc import Callable

#: So many characters of a secret in a row are a leak.
WINDOW = 10
#: What may stand between the characters of a secret that was folded, quoted or escaped.
_BETWEEN = re.compile(r"\\+(?:[nrt]|u00[0-9a-f]{2}|x[01][0-9a-f])|[\s\\\"'|]")

_UNICODE = re.compile(r"\\+u([0-9a-fA-F]{4})")


def in_base64(text: str, before: str = "") -> str:
    return base64.b64encode(f"{before}{text}and more".encode()).decode()


#: How an API may repeat a secret that it was sent.
SPELLINGS: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "in JSON": json.dumps,
    "in JSON, with slashes escaped": lambda text: json.dumps({"header": text}).replace("/", "\\/"),
    "in JSON, with \\u escapes": lambda text: "".join(char if char.isalnum() else f"\\u{ord(char):04x}" for char in text),
    "percent-encoded": quote,
    "percent-encoded whole": lambda text: quote(text, safe=""),
    "percent-encoded in lower case": lambda text: re.sub("%..", lambda code: code[0].lower(), quote(text, safe="")),
    "in base64": in_base64,
    "in base64, a character later": lambda text: in_base64(text, "x"),
    "in base64, two characters later": lambda text: in_base64(text, "xy"),
    "in base64 for URLs": lambda text: base64.urlsafe_b64encode(text.encode()).decode(),
    "twice": lambda text: f"{text}{text} {text}",
}


def _codes(secret: str) -> set[str]:
    """Return a secret as it is, percent-encoded, and in base64 at each of the three places where it may begin in there."""
    raw = secret.encode()
    coded = {quote(secret), quote(secret, safe=""), quote_plus(secret), raw.hex()}
    for skipped in range(3):
        whole = base64.b64encode(b"\0" * skipped + raw)[4 if skipped else 0 :].decode().rstrip("=")
        middle = whole[:-2]  # the last ones are also of what follows
        coded |= {middle, middle.replace("+", "-").replace("/", "_")}
    return {secret, *coded}


def leaks(secrets: dict[str, str], text: str | bytes) -> dict[str, str]:
    """Return which secrets stand in `text`, by name, with what stands there of each."""
    shown = text.decode("utf-8", "backslashreplace") if isinstance(text, bytes) else text
    decoded = unquote(_UNICODE.sub(lambda code: chr(int(code[1], 16)), shown))
    bare = " ".join(_BETWEEN.sub("", each) for each in (shown, decoded))
    found: dict[str, str] = {}
    for name, secret in secrets.items():
        for spelling in _codes(secret):
            word = _BETWEEN.sub("", spelling)
            for start in range(len(word) - WINDOW + 1):
                if (place := bare.find(word[start : start + WINDOW])) >= 0:
                    found.setdefault(name, f"…{bare[max(0, place - 60) : place + 80]}…")
    return found
