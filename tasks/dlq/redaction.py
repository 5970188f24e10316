"""Known secrets are cut out of text, however they are spelled there: percent-encoded, escaped, folded, in base64.

An API may say what it was sent, and a library what it was told, in any of these ways.
"""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING
from urllib.parse import unquote

from tasks.dlq.secrecy import MASK

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

#: What stands for other characters, or for none: percent-encoding, JSON's escapes, and what folds and quotes.
_CODED = re.compile(r"(?:%[0-9A-Fa-f]{2})+|\\+u[0-9A-Fa-f]{4}|\s+|\\+")
#: The same, where `\n` is the escape of a line end, and not an n that was escaped.
_FOLDED = re.compile(r"(?:%[0-9A-Fa-f]{2})+|\\+u[0-9A-Fa-f]{4}|\\+[nrt]|\s+|\\+")
_BLANK = re.compile(r"[\s\\]+")
#: base64 for URLs writes these two otherwise.
_PLAIN = str.maketrans("-_", "+/")
#: Characters from which on a secret is known by its beginning, and looked for in base64.
_BEGINNING = 8
_WORD = re.compile(r"\S*")


class Redactor:
    """Puts a mask in the place of each known secret.

    Args:
        secrets: at least one character each, else they are ignored.
        partly: mask also what only begins like a secret, and all up to the next blank: for text that may be cut.
    """

    def __init__(self, secrets: Iterable[str], *, partly: bool = False) -> None:
        self._spellings = sorted({bare for secret in secrets for bare in _spellings(secret) if bare}, key=len, reverse=True)
        self._partly = partly

    def __call__(self, text: str) -> str:
        """Return the text without the secrets. Takes time in proportion to its length."""
        shown, end = [], 0
        for begins, ends in sorted(self._found(text)):
            if begins >= end:
                shown += [text[end:begins], MASK]
            end = max(end, ends)
        return "".join([*shown, text[end:]])

    def _found(self, text: str) -> Iterator[tuple[int, int]]:
        """Yield where secrets stand in the text."""
        for coded in (_CODED, _FOLDED) if "\\" in text else (_CODED,):
            bare, spans = _bare(text, coded)
            for spelling in self._spellings:
                start = spelling[:_BEGINNING] if self._partly else spelling
                at, done = bare.find(start), 0
                while at >= 0:
                    length = _common(bare, at, spelling)
                    begins, ends = spans[at][0], spans[at + length - 1][1]
                    if self._partly and begins >= done:
                        ends = done = _WORD.match(text, ends).end()  # type: ignore[union-attr]
                    yield begins, ends
                    at = bare.find(start, at + length)


def _spellings(secret: str) -> Iterator[str]:
    """Yield a secret as `_bare` has it, and what base64 makes of it at each of the three places of a group."""
    yield from (_bare(secret, coded)[0] for coded in (_CODED, _FOLDED, _BLANK))
    if len(secret) >= _BEGINNING:
        for before in range(3):
            raw = b"\0" * before + secret.encode("utf-8", "surrogatepass")
            own = slice((before * 8 + 5) // 6, len(raw) * 8 // 6)  # the others are of its neighbours, too
            yield base64.b64encode(raw).decode()[own]


def _bare(text: str, coded: re.Pattern[str]) -> tuple[str, list[tuple[int, int]]]:
    """Return the text without what folds and escapes it, and for each of its characters from where to where it stands."""
    parts: list[str] = []
    spans: list[tuple[int, int]] = []
    done = 0
    for match in coded.finditer(text):
        decoded = _decoded(match[0])
        parts += [text[done : match.start()], decoded]
        spans += zip(range(done, match.start()), range(done + 1, match.start() + 1), strict=True)
        spans += [match.span()] * len(decoded)
        done = match.end()
    spans += zip(range(done, len(text)), range(done + 1, len(text) + 1), strict=True)
    return "".join([*parts, text[done:]]).translate(_PLAIN), spans


def _decoded(code: str) -> str:
    """Return the characters that a code stands for: none for blanks, and for what escapes the next character."""
    if code[0] == "%":
        decoded = unquote(code, errors="replace")
    elif code[-5:-4] == "u":
        decoded = chr(int(code[-4:], 16))
    else:
        return ""
    return "".join(char for char in decoded if not char.isspace() and char != "\\")


def _common(text: str, at: int, word: str) -> int:
    """Return how many characters of `word` stand in `text` from `at`."""
    if text.startswith(word, at):
        return len(word)
    return next((index for index, char in enumerate(word) if text[at + index : at + index + 1] != char), len(word))
