"""Makes `celery -A tasks flower` (and inspect, control, status, events) work as they are, by sending them to Redis."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NoReturn

import click
from kombu.exceptions import OperationalError

from tasks.monitoring.channel import TRANSPORT_OPTIONS, verified

if TYPE_CHECKING:
    from celery import Celery

#: Celery's commands that watch or order workers, and so belong on the side channel.
WATCHING = frozenset({"flower", "inspect", "control", "status", "events"})


def side_channel_option(url: str) -> click.Option:
    """Return a hidden preload option (Celery's hook for options of every command) that redirects the watching commands.

    An option's callback is the one public place that knows the application and which command is about to run.
    """

    def redirect(context: click.Context, _option: click.Parameter, value: str | None) -> None:
        if context.command.name not in WATCHING or context.find_root().params.get("broker"):
            return  # with `celery -b URL` the person has said where to look
        target = value or url
        if not target:
            raise click.UsageError(
                f"`celery {context.command.name}` sees nothing on SQS without the side channel. Give the worker and this command "
                "a Redis: [monitor] url in redrive.toml, or REDRIVE_MONITOR__URL=redis://127.0.0.1:6379/0"
            )
        if context.command.name == "flower":
            os.environ.setdefault("FLOWER_ADDRESS", "127.0.0.1")  # Flower's own default is every interface
        watch(context.obj.app, target)

    return click.Option(["--side-channel"], metavar="URL", hidden=True, expose_value=False, callback=redirect)


def watch(app: Celery, url: str) -> None:
    """Make the Redis at `url` the broker of this process, which only watches: it must not send tasks there."""
    url = verified(url)
    for name in ("CELERY_BROKER_URL", "CELERY_BROKER_READ_URL", "CELERY_BROKER_WRITE_URL"):
        os.environ[name] = url  # as `celery -b URL` does: Celery prefers these to its configuration
    app.conf.update(
        broker_url=url,
        broker_read_url=url,
        broker_write_url=url,
        broker_use_ssl=None,
        broker_transport_options=dict(TRANSPORT_OPTIONS),
        task_routes=(_refuse,),
    )


def _refuse(name: str, *_: Any, **__: Any) -> NoReturn:
    """A task router: no worker takes tasks from the side channel, they would wait there for ever."""
    raise OperationalError(f"{name} is not sent: the side channel carries no tasks. Use `redrive send`.")
