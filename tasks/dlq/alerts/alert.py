"""An alert, and the port to the sinks that deliver it."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

from tasks.dlq.text import format_minute

if TYPE_CHECKING:
    from collections.abc import Mapping


class Severity(StrEnum):
    """How urgent an alert is."""

    ERROR = "error"
    WARNING = "warning"


class AlertState(StrEnum):
    """The state of an alert in the ledger."""

    FIRING = "firing"
    OVER = "over"


@dataclass(frozen=True, kw_only=True)
class Alert:
    """A condition that people should know of. Each sink gets it once when it begins and once when it is over.

    It holds names, counts, times and HTTP statuses only. Parameters, bodies and the text of an answer stay in the ledger.
    """

    #: The name of its `AlertKind`.
    kind: str
    severity: Severity
    #: The same condition has the same fingerprint each time it returns.
    fingerprint: str
    #: The route or the source concerned.
    subject: str
    #: One line.
    title: str
    #: What failed, how many, since when, and which commands to run. For an alert that is over: what ended.
    text: str
    #: One clause without a full stop that says what has ended, such as "the API answers again".
    over_text: str
    over: bool = False
    count: int = 1
    #: Further values that a sink can show or index.
    facts: Mapping[str, str | int | float] = field(default_factory=dict)

    def ended(self, began_at: int) -> Alert:
        """Return the alert that says that this one is over. `began_at` is in milliseconds since the epoch."""
        text = f"{self.subject}: {self.over_text}. The alert began {format_minute(began_at)}."
        return replace(self, over=True, count=0, title=f"{self.subject}: over: {self.over_text}", text=text)


class AlertSink(Protocol):
    """Delivers alerts to one service. A sink that fails or hangs never delays or fails a job."""

    @property
    def name(self) -> str:
        """A stable word without blanks. The ledger records by this name which sink took an alert."""
        ...

    def send(self, alert: Alert) -> bool:
        """Return True if the service took the alert, or if it needs none. False, or an exception: try again later."""
        ...
