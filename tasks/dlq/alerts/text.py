"""Counts as people read them."""

from __future__ import annotations


def in_words(count: int, noun: str) -> str:
    """Return the count with its noun: "1 job", "2 jobs"."""
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"
