"""Failure groups: failures with the same cause share a key."""

from __future__ import annotations

import hashlib
import json
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tasks.dlq.calls.outcome import Outcome

_PLACEHOLDERS = [
    (re.compile(pattern, re.ASCII | re.IGNORECASE), placeholder)
    for pattern, placeholder in (
        (r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", "<uuid>"),
        (r"(?<!\w)(?:'[^']*'|\"[^\"]*\"|`[^`]*`)(?!\w)", "<text>"),
        (r"\b0x[0-9a-f]+\b|\b(?=[a-f]*[0-9])[0-9a-f]{8,}\b", "<hex>"),
        (r"\b(?=[a-z_-]*[0-9])[\w-]{20,}", "<id>"),
        (r"[0-9]+(?:[.,:][0-9]+)*", "<n>"),
    )
]


def normalise_message(text: str, limit: int = 200) -> str:
    """Return `text` on one line of at most `limit` characters, with placeholders for ids, numbers and quoted text."""
    line = " ".join("".join(char if char.isprintable() else " " for char in text[: 10 * limit]).split())
    for pattern, placeholder in _PLACEHOLDERS:
        line = pattern.sub(placeholder, line)
    return line if len(line) <= limit else line[: limit - 1] + "…"


def group_key(route: str, outcome: Outcome, status: int | None, message: str) -> str:
    """Return the failure group's key: 32 hex digits, the same for all failures with the same cause."""
    identity = json.dumps([route, outcome, status, normalise_message(message)])
    return hashlib.sha256(identity.encode()).hexdigest()[:32]
