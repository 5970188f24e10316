"""What may be asked of a worker over the side channel: to look, and to forget a wake-up. All else is refused.

Redis is a second way into the worker, often with a weak password or none. So nothing here stops a worker, changes its pool,
limits or queues, or tells where credentials could stand.
"""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING, Any

from celery.worker.control import Panel
from celery.worker.state import revoked

if TYPE_CHECKING:
    from collections.abc import Callable

    from celery.utils.collections import AttributeDict

logger = logging.getLogger(__name__)

Answer = dict[str, Any] | list[Any] | None

#: Celery's own handlers that only look, or that touch nothing but what the worker tells about itself.
_AS_CELERY_DOES = (
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
    """Run a handler that walks over the worker's sets while its event loop may change them."""
    for _ in range(_SNAPSHOT_TRIES):
        try:
            return handler(state, **arguments)
        except RuntimeError as error:  # "Set changed size during iteration"
            logger.debug("Asked again: %s", error)
    return {"error": "the worker was too busy to be looked at; ask again"}


def _registered(state: AttributeDict, **_: Any) -> Answer:
    """List the tasks' names. Celery's handler would print any attribute of a task that is asked for."""
    return [name for name in sorted(state.app.tasks) if not name.startswith("celery.")]


def _stats(state: AttributeDict, **_: Any) -> Answer:
    """Celery's statistics without the broker's account: on SQS the user id is an AWS access key."""
    stats: dict[str, Any] = _snapshot(Panel.data["stats"], state)  # type: ignore[assignment]
    broker = stats.get("broker")
    if isinstance(broker, dict):
        stats["broker"] = {key: broker[key] for key in ("transport", "connect_timeout", "heartbeat") if key in broker}
    return stats


def _conf(state: AttributeDict, **_: Any) -> Answer:
    """The plain settings only: no URL, no nested options, where credentials could stand."""
    table = state.app.conf.table(with_defaults=False, censored=True)
    return {
        key: value
        for key, value in table.items()
        if isinstance(value, bool | int | float | str) and "url" not in key and "backend" not in key and not key.startswith("__")
    }


def _revoke(_state: AttributeDict, task_id: str | list[str] = "", *, terminate: bool = False, **_: Any) -> Answer:
    """Forget a wake-up that has not begun. Never stops a running one: its call would be left without an outcome."""
    if terminate:
        return {"error": "refused: terminate would cut a call in two; revoke without it, or `redrive discard` the job"}
    ids = [task_id] if isinstance(task_id, str) else task_id
    if not ids or not all(isinstance(each, str) and each for each in ids):
        return {"error": "revoke takes the ids of tasks"}
    revoked.update(ids)
    logger.info("Remote control revoked %d wake-ups.", len(ids))
    return {"ok": f"{len(ids)} flagged as revoked; a job that is due rings again by itself; submissions are kept"}


def _refused(command: str, _state: AttributeDict, **_: Any) -> Answer:
    logger.warning("Remote control command %.60r is refused: it is not on the list of safe ones.", command)
    return {"error": f"refused: {command[:60]!r} is not allowed on the side channel; allowed are {', '.join(sorted(COMMANDS))}"}


class _Commands(dict[str, "Callable[..., Answer]"]):
    """An allow-list: everything else is answered with a refusal."""

    def __missing__(self, command: str) -> Callable[..., Answer]:
        return partial(_refused, command)


COMMANDS = _Commands(
    {name: partial(_snapshot, Panel.data[name]) for name in _AS_CELERY_DOES},
    registered=_registered,
    stats=_stats,
    conf=_conf,
    revoke=_revoke,
)
