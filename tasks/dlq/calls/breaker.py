"""The circuit breaker of a route: when the API is down, calls stop; probes tell when it is back. Pure: state in, state out.

It opens when at least two different keys fail for the API's fault in a row, so that one poisoned key cannot open it. While it is
open, one probe at a time goes out, each with another key, and no call spends an attempt.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from tasks.dlq.calls.outcome import Outcome

#: Outcomes that speak against the API itself.
FAULTS = frozenset({Outcome.API_FAULT, Outcome.NETWORK, Outcome.DEADLINE})
#: Outcomes that tell nothing about the API.
SILENT = frozenset({Outcome.NOT_SENT, Outcome.LOST, Outcome.REFUSED})


@dataclass(frozen=True, kw_only=True)
class Breaker:
    """The breaker's state as the route's row keeps it. `probe_at` is the ledger's milliseconds."""

    open: bool = False
    faults: int = 0
    first_key: str | None = None
    probe_at: int = 0

    def after(self, outcome: Outcome, *, key: str, now: int, interval: float) -> Breaker:
        """Return the state after a call of `key` ended with `outcome`; the next probe is due `interval` seconds later."""
        if outcome in SILENT:
            return self
        if outcome not in FAULTS:
            return Breaker()
        first_key = self.first_key if self.faults else key
        return replace(
            self,
            open=self.open or key != first_key,
            faults=self.faults + 1,
            first_key=first_key,
            probe_at=now + round(interval * 1000),
        )

    def probing(self, *, now: int, interval: float) -> Breaker:
        """Return the state once a probe has been given out: the next one is due `interval` seconds later."""
        return replace(self, probe_at=now + round(interval * 1000))
