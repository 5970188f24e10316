"""The circuit breaker of a route: while the API is down calls stop, and probes find out when it is back.

The breaker opens when at least two different keys fail in a row through the API's fault, so that one failing key cannot open
it. While it is open, one probe at a time goes out, each for another key, and no call uses up an attempt.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from tasks.dlq.calls.outcome import Outcome

#: Outcomes that are the API's fault.
FAULTS = frozenset({Outcome.API_FAULT, Outcome.NETWORK, Outcome.DEADLINE})
#: Outcomes that say nothing about the API.
NEUTRAL = frozenset({Outcome.NOT_SENT, Outcome.LOST, Outcome.REFUSED})


@dataclass(frozen=True, kw_only=True)
class Breaker:
    """The breaker's state, a value: each change returns a new one."""

    open: bool = False
    #: API faults in a row, over all keys.
    faults: int = 0
    #: The key that failed first in that row.
    first_key: str | None = None
    #: No probe before this moment, in the ledger's milliseconds.
    probe_at: int = 0

    def after(self, outcome: Outcome, *, key: str, now: int, interval: float) -> Breaker:
        """Return the state after a call of `key` ended with `outcome`; the next probe is due `interval` seconds later."""
        if outcome in NEUTRAL:
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
        """Return the state after a probe was given out; the next one is due `interval` seconds later."""
        return replace(self, probe_at=now + round(interval * 1000))
