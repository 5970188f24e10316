"""Flower, live on SQS: events and safe remote control go over a side channel on Redis.

Celery's SQS transport carries neither, so Flower would show an empty page. With `[monitor] url` set, a worker sends its
events to Redis and listens there for a few harmless orders; `celery flower`, `inspect`, `control`, `status` and `events`
talk to Redis too. Tasks never touch it: with Redis slow, dead or gone they go on as before.
See docs/reference/flower.md.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import TYPE_CHECKING

from tasks.monitoring.events import SideChannelEvents
from tasks.monitoring.flower import side_channel_option
from tasks.monitoring.remote_control import RemoteControl

if TYPE_CHECKING:
    from collections.abc import Callable

    from celery import Celery

__all__ = ["attach", "flower_command"]


def attach(app: Celery, url: str, *, redact: Callable[[str], str] = str) -> None:
    """Give `app` the side channel at the Redis `url`. Opens nothing: workers and commands do, when they start.

    `redact` takes the secrets out of errors: Redis is no place for them.

    With an empty `url` workers stay as they are, and `celery flower` says what is missing instead of showing an empty page.
    Call it before anything else touches `app.events`.
    """
    app.user_options["preload"].add(side_channel_option(url))
    if url:
        app.events_cls = partial(SideChannelEvents, url=url, redact=redact)
        app.steps["consumer"].add(RemoteControl)


def flower_command(port: int) -> list[str]:
    """Return the command that runs Flower on a loopback port; it reads the same configuration as the worker."""
    return [sys.executable, "-m", "celery", "-A", "tasks", "flower", "--address=127.0.0.1", f"--port={port}"]
