"""A process of Redrive, as the ledger knows it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

#: Seconds between two heartbeats in the ledger.
HEARTBEAT_INTERVAL = 10.0
#: Seconds between two updates of a liveness file.
LIVENESS_INTERVAL = 5.0
#: Seconds without a heartbeat or an update after which a process counts as stuck.
STALE_AFTER = 60.0


class Role(StrEnum):
    """What a process is for."""

    WORKER = "worker"
    BEAT = "beat"
    INTAKE = "intake"


@dataclass(frozen=True, kw_only=True)
class Process:
    """One process."""

    role: Role
    host: str
    pid: int
    #: The id of the process that a supervisor started: for a process of a worker's pool, its parent.
    main_pid: int
    #: Redrive's version.
    version: str
    #: The queues or sources that it takes work from.
    serves: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The name of its row in the ledger."""
        return f"{self.role}@{self.host}:{self.pid}"
