"""A route: the named HTTP target that a need calls, with its delay, limits and retry policy."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tasks.dlq.calls.outcome import Answers
from tasks.dlq.calls.retry import RetryPolicy

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tasks.dlq.calls.body_template import BodyTemplate
    from tasks.dlq.parameters import ParameterType

#: Seconds between the end of the last call that a lease allows and the lease's own end: scheduling, a slow commit.
LEASE_MARGIN = 5.0
#: Seconds that a worker surely has from the claim to the first byte, whatever the drain; what the drain leaves comes on top.
LEASE_START = 5.0


@dataclass(frozen=True, kw_only=True)
class Route:
    """Where and how a key is called. Durations are seconds. Each of the `params` stands in the URL, in the body or in both.

    `drain` is how long the API may work on after the client has gone: a key and its slot rest that long after a call whose
    outcome is unknown. `bearer_env` names the environment variable that holds the token; the token itself is never kept here.
    """

    name: str
    url: str
    method: str = "PUT"
    params: Mapping[str, ParameterType] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=lambda: {"Content-type": "application/json"}, repr=False)
    bearer_env: str | None = None
    delay: float = 30.0
    deadline: float = 20.0
    drain: float = 5.0
    max_in_flight: int = 1
    window: int = 100
    probe_interval: float = 5.0
    max_response_bytes: int = 65536
    answers: Answers = field(default_factory=Answers)
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    body: BodyTemplate | None = None

    @property
    def lease(self) -> float:
        """Seconds that a claim holds its job; docs/adr/0003-lease-and-fence.md has the reasons."""
        return LEASE_START + self.deadline + self.drain + LEASE_MARGIN
