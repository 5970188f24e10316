"""Canaries: secrets that are planted everywhere, and how any of them is found again, however it was written down."""

from __future__ import annotations

import base64
import re
from urllib.parse import quote, quote_plus, unquote

#: So many characters of a secret in a row are a leak.
WINDOW = 10
#: What may stand between the characters of a secret that was folded, quoted or escaped.
_BETWEEN = re.compile(r"\\+(?:[nrt]|u00[0-9a-f]{2}|x[01][0-9a-f])|[\s\\\"'|]")

_UNICODE = re.compile(r"\\+u([0-9a-fA-F]{4})")


def spellings(secret: str) -> set[str]:
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
        for spelling in spellings(secret):
            word = _BETWEEN.sub("", spelling)
            for start in range(len(word) - WINDOW + 1):
                if (place := bare.find(word[start : start + WINDOW])) >= 0:
                    found.setdefault(name, f"…{bare[max(0, place - 60) : place + 80]}…")
    return found
