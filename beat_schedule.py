"""Beat's periodic sweeps: how often, and which task. Two beats do no harm: every sweep may run twice at once."""

from typing import Any

from tasks.settings.sections import Sweeps


def schedule(sweeps: Sweeps) -> dict[str, dict[str, Any]]:
    """Return Celery's beat schedule.

    A sweep that no worker took before the next one is due has nothing left to say: it expires, and they never pile up.
    """
    seconds = {
        "redrive.promote": sweeps.promote,
        "redrive.rescue": sweeps.rescue,
        "redrive.sources": sweeps.sources,
        "redrive.watch": sweeps.watch,
        "redrive.prune": sweeps.prune,
    }
    return {
        task.removeprefix("redrive."): {"task": task, "schedule": every, "options": {"expires": max(every, 5.0)}}
        for task, every in seconds.items()
    }
