"""Known secrets are cut out of text, however they are spelled: percent-encoded, escaped, folded, in base64 or hex, in any case.

An API may say what it was sent, and a library what it was told, in any of these ways, and in one within the other: an address in
an error page is percent-encoded, and escaped for HTML. docs/background/threat-model.md says which spellings are known.
"""

from __future__ import annotations

import base64
import html
import re
import string
import sys
from typing import TYPE_CHECKING
from urllib.parse import unquote

from tasks.dlq.secrets.names import MASK

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    #: A text, and for each of its characters from where to where it stood in the text that it was made of.
    Reading = tuple[str, list[tuple[int, int]]]

#: What stands for other characters: percent-encoding, the escapes of JSON, Python and JavaScript, and those of HTML.
_CODES = (
    r"(?:%[0-9A-Fa-f]{2})+|\\+u(?:[0-9A-Fa-f]{4}|\{[0-9A-Fa-f]{1,6}\})|(?:\\+x[0-9A-Fa-f]{2})+"
    r"|&(?:#[0-9]{1,7}|#[xX][0-9A-Fa-f]{1,6}|[A-Za-z][A-Za-z0-9]{1,30});"
)
#: What each of them has in it.
_MARK = re.compile(r"[%&\\]")
#: What stands for none: it folds and quotes. Of the characters that are not seen, the ones that are no blanks by Unicode.
_GAPS = r"[\s\0\u00ad\u200b-\u200d\u2060\ufeff]+|\\+"
_CODED = re.compile(f"{_CODES}|{_GAPS}")
#: The same, where `\n` is the escape of a line end, and not an n that was escaped.
_FOLDED = re.compile(rf"{_CODES}|\\+[nrt]|{_GAPS}")
_FOLDS = re.compile(_GAPS)
#: So many codes within one another are undone.
_LAYERS = 4
#: base64 for URLs writes these two otherwise.
_PLAIN = str.maketrans("-_", "+/")
#: As many characters as before, which `str.lower` does not promise.
_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)
#: Characters from which on a secret is known by its beginning, in any case, and looked for in base64 and hex.
_BEGINNING = 8
_WORD = re.compile(r"\S*")


class Redactor:
    """Puts a mask in the place of each known secret.

    Args:
        secrets: at least one character each, else they are ignored.
        partly: mask also what only begins like a secret, and all up to the next blank: for text that may be cut.
    """

    def __init__(self, secrets: Iterable[str], *, partly: bool = False) -> None:
        self._spellings = sorted({each for secret in secrets for each in _spellings(secret) if each}, key=len, reverse=True)
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
        for bare, spans in _readings(text):
            lower = bare.translate(_LOWER)
            for spelling in self._spellings:
                where = lower if len(spelling) >= _BEGINNING else bare
                start = spelling[:_BEGINNING] if self._partly else spelling
                at, done = where.find(start), 0
                while at >= 0:
                    length = _common(where, at, spelling)
                    begins, ends = spans[at][0], spans[at + length - 1][1]
                    if self._partly and begins >= done:
                        ends = done = _WORD.match(text, ends).end()  # type: ignore[union-attr]
                    yield begins, ends
                    at = where.find(start, at + length)


def _spellings(secret: str) -> Iterator[str]:
    """Yield a secret as it is read, and as hex and base64 spell it, the latter at each of the three places of a group."""
    for bare, _ in _readings(secret):
        yield bare if len(bare) < _BEGINNING else bare.translate(_LOWER)
    if len(secret) >= _BEGINNING:
        raw = secret.encode("utf-8", "surrogatepass")
        yield raw.hex()
        for before in range(3):
            coded = base64.b64encode(b"\0" * before + raw).decode()
            own = slice((before * 8 + 5) // 6, (before + len(raw)) * 8 // 6)  # the others are of its neighbours, too
            yield coded[own].translate(_LOWER)


def _readings(text: str) -> Iterator[Reading]:
    """Yield the text without what folds it, and with its codes undone, one layer after the other."""
    yield _bare(text, _FOLDS)
    if not _MARK.search(text):
        return
    for coded in (_CODED, _FOLDED) if "\\" in text else (_CODED,):
        bare, spans = _bare(text, coded)
        yield bare, spans
        for _ in range(1, _LAYERS):
            if not coded.search(bare):
                break
            bare, inner = _bare(bare, coded)
            spans = [(spans[begins][0], spans[ends - 1][1]) for begins, ends in inner]
            yield bare, spans


def _bare(text: str, coded: re.Pattern[str]) -> Reading:
    """Return the text with what is coded undone, and without what folds it."""
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
    """Return the characters that a code stands for: none for what folds, and for what escapes the next character."""
    if code[0] == "%":
        return unquote(code, errors="replace")
    if code[0] == "&":
        return html.unescape(code)
    escape = code.lstrip("\\")
    if escape[:1] == "x":
        return _of_bytes(bytes.fromhex(code.replace("\\", "").replace("x", "")))
    if escape[:1] == "u":
        number = int(escape[1:].strip("{}"), 16)
        return chr(number) if number <= sys.maxunicode else ""
    return ""


def _of_bytes(raw: bytes) -> str:
    """Return the characters of bytes, as Python escapes them: those of UTF-8, or a character's own number."""
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return raw.decode("latin-1")


def _common(text: str, at: int, word: str) -> int:
    """Return how many characters of `word` stand in `text` from `at`."""
    if text.startswith(word, at):
        return len(word)
    return next((index for index, char in enumerate(word) if text[at + index : at + index + 1] != char), len(word))
