"""Reads the body of a dead letter as strict JSON (RFC 8259), within bounds.

Python's `json` accepts NaN and duplicate names, turns 1e999 into infinity, and overflows the stack on deep nesting. This reader
refuses input that two readers could understand differently, or that could harm the process. NUL and lone surrogates in strings
are legal JSON: the ledger stores the original bytes, and a parameter's type refuses them before they reach a URL.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from typing import Any

from tasks.dlq.errors import UnreadableBody
from tasks.dlq.text import show_value

#: Characters of an integer. Python needs quadratic time for long ones.
MAX_DIGITS = 500
_BOM = b"\xef\xbb\xbf"
_BLANK = b" \t\r\n"
# Possessive quantifiers: hostile quotes and backslashes cost linear time. An open string ends at the end of the body.
_STRING = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?', re.DOTALL)
_BRACKETS = re.compile(rb"[\[\]{}]")


def read_json(body: bytes, *, max_bytes: int, max_depth: int = 64) -> Any:
    """Return the document in `body`: UTF-8, with or without a byte order mark (section 8.1 lets a reader ignore it).

    Raises:
        UnreadableBody: the reason is one of "too-large", "empty", "too-deep", "not-utf8", "not-json", "duplicate-key",
            "not-a-number" (NaN, Infinity, or beyond a float), "integer-too-long".
    """
    if len(body) > max_bytes:
        raise UnreadableBody("too-large", f"the body has {len(body)} bytes; the limit is {max_bytes}")
    body = body.removeprefix(_BOM)
    if not body.strip(_BLANK):
        raise UnreadableBody("empty", "the body is empty")
    _check_depth(body, max_depth)
    try:
        return json.loads(
            body.decode("utf-8"),
            object_pairs_hook=_object,
            parse_constant=_constant,
            parse_int=_integer,
            parse_float=_float,
        )
    except UnicodeDecodeError as error:
        raise UnreadableBody("not-utf8", f"the body is not UTF-8 from byte {error.start}") from error
    except json.JSONDecodeError as error:
        raise UnreadableBody(
            "not-json", f"the body is not JSON: {error.msg} (line {error.lineno}, column {error.colno})"
        ) from error


def _check_depth(body: bytes, max_depth: int) -> None:
    """Count brackets outside of strings, and stop at the first one too deep: `json` would recurse into each."""
    depth = 0
    for bracket in _BRACKETS.finditer(_STRING.sub(b"", body)):
        depth += 1 if bracket[0] in b"[{" else -1
        if depth > max_depth:
            raise UnreadableBody("too-deep", f"the body is nested deeper than {max_depth} levels")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    document = dict(pairs)
    if len(document) < len(pairs):
        double, _ = Counter(name for name, _ in pairs).most_common(1)[0]
        raise UnreadableBody("duplicate-key", f"an object in the body has the name {show_value(double)} twice")
    return document


def _constant(word: str) -> Any:
    raise UnreadableBody("not-a-number", f"the body contains {word}, which is not JSON")


def _integer(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise UnreadableBody(
            "integer-too-long", f"the body contains an integer of {len(digits)} characters; the limit is {MAX_DIGITS}"
        )
    return int(digits)


def _float(text: str) -> float:
    number = float(text)
    if math.isinf(number):
        raise UnreadableBody("not-a-number", f"the body contains the number {show_value(text)}, which is too large for a float")
    return number
