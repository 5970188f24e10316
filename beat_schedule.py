"""Beat's periodic sweeps: how often, and which task. Two beats do no harm: every sweep may run twice at once."""

from typing import Any

from tasks.names import DRAIN_SOURCES, PROMOTE, PRUNE, RESCUE, WATCH
from tasks.settings.sections import Sweeps


def schedule(sweeps: Sweeps) -> dict[str, dict[str, Any]]:
    """Return Celery's beat schedule."""
    seconds = {
        PROMOTE: sweeps.promote,
        RESCUE: sweeps.rescue,
        DRAIN_SOURCES: sweeps.sources,
        WATCH: sweeps.watch,
        PRUNE: sweeps.prune,
    }
    return {task.removeprefix("redrive."): {"task": task, "schedule": every} for task, every in seconds.items()}
