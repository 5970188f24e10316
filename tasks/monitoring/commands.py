"""The commands that a worker accepts over the side channel: to inspect it, and to revoke a wake-up.

Redis is a second way into the worker, often with a weak password or none. So no command stops a worker, changes its pool,
limits or queues, or shows a place where credentials could be.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import structlog
from celery.worker.control import Panel
from celery.worker.state import revoked

if TYPE_CHECKING:
    from collections.abc import Callable

    from celery.utils.collections import AttributeDict

log = structlog.get_logger("redrive.monitoring")

Answer = dict[str, Any] | list[Any] | None

#: Celery's own handlers that only inspect the worker, or change only the events that it sends.
_CELERYS_OWN = (
    "ping",
    "active",
    "reserved",
    "scheduled",
    "revoked",
    "query_task",
    "active_queues",
    "enable_events",
    "heartbeat",
)

_SNAPSHOT_TRIES = 5


def _snapshot(handler: Callable[..., Answer], state: AttributeDict, **arguments: Any) -> Answer:
    """Run a handler that iterates over the worker's sets, which its event loop may change meanwhile."""
    for _ in range(_SNAPSHOT_TRIES):
        try:
            return handler(state, **arguments)
        except RuntimeError as error:  # "Set changed size during iteration"
            log.debug("snapshot_repeated", error=str(error))
    return {"error": "the worker was too busy; ask again"}


def _registered(state: AttributeDict, **_: Any) -> Answer:
    """List the names of the tasks. Celery's handler would print any attribute of a task."""
    return [name for name in sorted(state.app.tasks) if not name.startswith("celery.")]


def _stats(state: AttributeDict, **_: Any) -> Answer:
    """Return Celery's statistics without the broker's user id: on SQS it is an AWS access key."""
    stats: dict[str, Any] = _snapshot(Panel.data["stats"], state)  # type: ignore[assignment]
    broker = stats.get("broker")
    if isinstance(broker, dict):
        stats["broker"] = {key: broker[key] for key in ("transport", "connect_timeout", "heartbeat") if key in broker}
    return stats


def _conf(state: AttributeDict, **_: Any) -> Answer:
    """Return the plain settings only. URLs and nested options could contain credentials."""
    table = state.app.conf.table(with_defaults=False, censored=True)
    return {
        key: value
        for key, value in table.items()
        if isinstance(value, bool | int | float | str) and "url" not in key and "backend" not in key and not key.startswith("__")
    }


def _revoke(_state: AttributeDict, task_id: str | list[str] = "", *, terminate: bool = False, **_: Any) -> Answer:
    """Revoke a wake-up that has not begun. A running one is never stopped: its call would have no outcome."""
    if terminate:
        return {"error": "refused: terminate would end an open call; revoke without it, or run `redrive discard` for the job"}
    ids = [task_id] if isinstance(task_id, str) else task_id
    if not ids or not all(isinstance(each, str) and each for each in ids):
        return {"error": "revoke takes the ids of tasks"}
    revoked.update(ids)
    log.info("wakeups_revoked", count=len(ids))
    return {"ok": f"{len(ids)} flagged as revoked; a job that is due gets a new wake-up; submissions are kept"}


def _refuse(command: str, _state: AttributeDict, **_: Any) -> Answer:
    log.warning("command_refused", command=command[:60])
    return {"error": f"refused: {command[:60]!r} is not allowed on the side channel; allowed are {', '.join(sorted(COMMANDS))}"}


class _Commands(dict[str, "Callable[..., Answer]"]):
    """An allow-list: every other command is refused."""

    def __missing__(self, command: str) -> Callable[..., Answer]:
        return partial(_refuse, command)


COMMANDS = _Commands(
    {name: partial(_snapshot, Panel.data[name]) for name in _CELERYS_OWN},
    registered=_registered,
    stats=_stats,
    conf=_conf,
    revoke=_revoke,
)
