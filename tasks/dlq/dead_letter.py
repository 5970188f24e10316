"""A dead letter on its way into the ledger: one failed record, and its needs."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True, kw_only=True)
class Rejection:
    """Why a body could not be mapped to needs."""

    #: A short, stable word to group by.
    reason: str
    #: One line for people.
    detail: str


@dataclass(frozen=True, kw_only=True)
class DeadLetter:
    """One failed record as it arrived."""

    source: str
    #: The record's identity within its source: a record that is delivered twice is one letter.
    identity: str
    #: The original bytes.
    body: bytes
    #: The part of the source that it came from, and its place there (see `tasks.dlq.ports.Record`).
    stream: str = ""
    offset: int | None = None
    #: Where the record came from; JSON-serialisable.
    origin: Mapping[str, object] = field(default_factory=dict)
    #: The route, and the keys (`tasks.dlq.key`) that the letter needs on it, without duplicates. No keys: it is rejected.
    route: str = ""
    keys: Sequence[str] = ()
    rejection: Rejection | None = None

    def __post_init__(self) -> None:
        if bool(self.keys) == (self.rejection is not None):
            raise ValueError("a dead letter has either keys or a rejection")  # else the audit could not count it
