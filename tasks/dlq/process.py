"""A process of Redrive, as the ledger knows it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

#: Seconds between two heartbeats in the ledger, and between two pulses on this machine.
HEARTBEAT = 10.0
PULSE = 5.0
#: Seconds without a sign after which a process counts as ill.
FRESH = 60.0


class Role(StrEnum):
    """What a process is for."""

    WORKER = "worker"
    BEAT = "beat"
    INTAKE = "intake"


@dataclass(frozen=True, kw_only=True)
class Process:
    """One process. `main_pid` is that of the process which a supervisor started; `serves` are queues or sources."""

    role: Role
    host: str
    pid: int
    main_pid: int
    version: str
    serves: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The name that it has in the ledger."""
        return f"{self.role}@{self.host}:{self.pid}"
