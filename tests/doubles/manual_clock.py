"""A ledger's clock that moves only when a test moves it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tasks.dlq.ledger.clock import StepDetector

if TYPE_CHECKING:
    from sqlalchemy import Connection


class ManualClock:
    def __init__(self, now: int = 1_700_000_000_000) -> None:
        self.now = now
        self._elapsed = 0.0
        self._detector = StepDetector(lambda: self._elapsed, float("inf"))  # tests move it by long spans

    def read(self, connection: Connection) -> int:  # noqa: ARG002 - the Protocol's
        self._detector.note(self.now)
        return self.now

    def steady_for(self) -> float:
        return self._detector.steady_for()

    def advance(self, seconds: float) -> None:
        """Let `seconds` pass; if they are negative, only the clock moves."""
        self._elapsed += max(seconds, 0.0)
        self.step(seconds)

    def step(self, seconds: float) -> None:
        """Set the clock ahead by `seconds`, while no time passes."""
        self.now += round(seconds * 1000)
