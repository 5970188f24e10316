"""A dead letter on its way into the ledger: one failed record, and the needs that its body asks for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True, kw_only=True)
class Rejection:
    """Why a body could not become needs: a short, stable reason to group by, and one line for people."""

    reason: str
    detail: str


@dataclass(frozen=True, kw_only=True)
class DeadLetter:
    """One failed record as it arrived.

    `keys` are the canonical keys (see `parameters.canonical_key`) that it needs on `route`, without doubles; empty exactly
    when it is rejected. `body` are the original bytes, `origin` whatever the source knows of where it came from. `offset` is
    the record's place in its `stream`, where places are numbered.
    """

    source: str
    identity: str
    body: bytes
    stream: str = ""
    offset: int | None = None
    origin: Mapping[str, object] = field(default_factory=dict)
    route: str = ""
    keys: Sequence[str] = ()
    rejection: Rejection | None = None

    def __post_init__(self) -> None:
        """Refuse a letter that would be neither needed nor rejected: it could never be accounted for."""
        if bool(self.keys) == (self.rejection is not None):
            raise ValueError("a dead letter has either keys or a rejection")
