"""A route: a named HTTP target, with its delay, limits and retry policy."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tasks.dlq.calls.outcome import Answers
from tasks.dlq.calls.retry import RetryPolicy

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tasks.dlq.calls.body_template import BodyTemplate
    from tasks.dlq.parameters import ParameterType

#: Seconds between the latest end of a call and the end of its lease, for scheduling and a slow commit.
LEASE_MARGIN = 5.0
#: Seconds that a worker has at least from the claim to the first byte of the call.
LEASE_START = 5.0


@dataclass(frozen=True, kw_only=True)
class Route:
    """Where and how a key is called. Durations are seconds."""

    name: str
    #: An RFC 6570 template.
    url: str
    method: str = "PUT"
    #: The parameters with their types. Each is used in the URL, in the body, or in both.
    params: Mapping[str, ParameterType] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=lambda: {"Content-type": "application/json"}, repr=False)
    #: The environment variable that contains the token. The token itself is never stored here.
    bearer_env: str | None = None
    #: From a new need to its call.
    delay: float = 30.0
    #: The total time of a call.
    deadline: float = 20.0
    #: How long the API may continue to work after the client has gone: key and slot rest so long after an unknown outcome.
    drain: float = 5.0
    #: Open calls of the route at most, over all workers.
    max_in_flight: int = 1
    #: Wake-ups that are out at most.
    window: int = 100
    #: Between two probes behind an open breaker.
    probe_interval: float = 5.0
    max_response_bytes: int = 65536
    answers: Answers = field(default_factory=Answers)
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    #: The body of a call; None sends none.
    body: BodyTemplate | None = None

    @property
    def lease(self) -> float:
        """Seconds for which a claim holds its job; see docs/adr/0003-lease-and-fence.md."""
        return LEASE_START + self.deadline + self.drain + LEASE_MARGIN
