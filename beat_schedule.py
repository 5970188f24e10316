"""Beat's periodic sweeps: how often, and which task. Two beats do no harm: every sweep may run twice at once."""

from typing import Any

from tasks.settings.sections import Sweeps


def schedule(sweeps: Sweeps) -> dict[str, dict[str, Any]]:
    """Return Celery's beat schedule."""
    seconds = {
        "redrive.promote": sweeps.promote,
        "redrive.rescue": sweeps.rescue,
        "redrive.sources": sweeps.sources,
        "redrive.watch": sweeps.watch,
        "redrive.prune": sweeps.prune,
    }
    return {task.removeprefix("redrive."): {"task": task, "schedule": every} for task, every in seconds.items()}
