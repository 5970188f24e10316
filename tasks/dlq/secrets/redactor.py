"""Masks known secrets in text, where they are plain, percent-encoded, JSON-escaped or in base64.

Only one of these encodings is undone, not one inside another: docs/background/threat-model.md.
"""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING

from tasks.dlq.secrets.names import MASK

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

#: Secrets of at least this length are also searched for in base64, word by word, and by their beginning.
_LONG = 8


class Redactor:
    """Replaces each known secret in a text by a mask.

    Args:
        secrets: Empty ones are ignored.
        truncated: The text may end within a secret: also mask what only begins like one, up to the next blank.
    """

    def __init__(self, secrets: Iterable[str], *, truncated: bool = False) -> None:
        spellings = sorted({spelling for secret in secrets for spelling in _spellings(secret)}, key=len, reverse=True)
        patterns = [_pattern(each) for each in spellings]
        if truncated:
            patterns = [rf"(?:{pattern}|{_pattern(each[:_LONG])})\S*" for pattern, each in zip(patterns, spellings, strict=True)]
        self._pattern = re.compile("|".join(patterns) or r"(?!)")

    def __call__(self, text: str) -> str:
        """Return the text without the secrets. The time it takes is linear in the length of the text."""
        return self._pattern.sub(MASK, text)


def _spellings(secret: str) -> Iterator[str]:
    """Yield the secret, the long words in it, and the base64 of each: a list of URLs holds several secrets."""
    words = [word for word in re.split(r"[\s,]+", secret) if len(word) >= _LONG]
    yield from filter(None, [secret])
    for text in {secret, *words} if len(secret) >= _LONG else ():
        yield text
        yield from _base64(text)


def _base64(text: str) -> Iterator[str]:
    """Yield what base64 makes of the text, at each of the three places of a group where it may begin."""
    raw = text.encode("utf-8", "surrogatepass")
    for before in range(3):
        own = slice((before * 8 + 5) // 6, (before + len(raw)) * 8 // 6)  # the characters outside also hold bits of others
        coded = base64.b64encode(b"\0" * before + raw).decode()[own]
        yield from (coded, coded.translate({ord("+"): "-", ord("/"): "_"}))


def _pattern(text: str) -> str:
    return "".join(char if char.isascii() and char.isalnum() else _alternatives(char) for char in text)


def _alternatives(char: str) -> str:
    """Return a pattern for a character that an encoder may replace."""
    percent = "".join(f"%{byte:02x}" for byte in char.encode("utf-8", "surrogatepass"))
    escape = re.sub("(....)", r"\\u\1", char.encode("utf-16-be", "surrogatepass").hex())
    plain = [char, f"\\{char}", *("+" if char == " " else "")]
    return f"(?:{'|'.join(map(re.escape, plain))}|(?i:{re.escape(percent)}|{re.escape(escape)}))"
