"""Flower on SQS: events and safe remote control go over a side channel on Redis.

Celery's SQS transport carries neither, so Flower would show an empty page. With `[monitor] url` set, a worker sends its events to
Redis and receives a few harmless commands there. `celery flower`, `inspect`, `control`, `status` and `events` use Redis too.
Tasks never use it: they go on while Redis is slow or dead. See docs/reference/flower.md.
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
    """Add the side channel to an application. It opens no connection. Call it before anything uses `app.events`.

    Args:
        app: The application.
        url: A Redis. If it is empty, workers have no side channel, and `celery flower` says what is missing.
        redact: Removes secrets from the errors that events quote.
    """
    app.user_options["preload"].add(side_channel_option(url))
    if url:
        app.events_cls = partial(SideChannelEvents, url=url, redact=redact)
        app.steps["consumer"].add(RemoteControl)


def flower_command(port: int) -> list[str]:
    """Return the command that runs Flower on a loopback port, with the configuration of the worker."""
    return [sys.executable, "-m", "celery", "-A", "tasks", "flower", "--address=127.0.0.1", f"--port={port}"]
