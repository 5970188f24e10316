"""An alert, and the port to the sinks that deliver it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping

FAILURE_GROUP = "failure_group"
BURST = "burst"
ROUTE_PAUSED = "route_paused"
BREAKER_OPEN = "breaker_open"
FIRING = "firing"
OVER = "over"


@dataclass(frozen=True, kw_only=True)
class Alert:
    """Something that people should know: told once when it begins and once when it is over.

    `kind` is "failure_group", "burst", "route_paused" or "breaker_open". `fingerprint` identifies the alert for ever: the same
    trouble has the same one. `facts` are small values for people and machines; neither they nor the texts hold secrets or bodies.
    """

    kind: str
    fingerprint: str
    title: str
    text: str
    route: str
    over: bool = False
    count: int = 0
    facts: Mapping[str, str | int | float] = field(default_factory=dict)


class AlertSink(Protocol):
    """Passes an alert on. Failing is its own affair: it never delays or fails a job."""

    @property
    def name(self) -> str:
        """A stable word without blanks: the ledger remembers by it which sink took an alert."""
        ...

    def send(self, alert: Alert) -> bool:
        """Return True when the alert was delivered (or needs no delivery); False to be asked again by the next sweep."""
        ...
