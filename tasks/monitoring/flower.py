"""Redirects `celery -A tasks flower`, inspect, control, status and events to Redis."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, NoReturn

import click
from kombu.exceptions import OperationalError

from tasks.monitoring.channel import TRANSPORT_OPTIONS, require_certificate

if TYPE_CHECKING:
    from celery import Celery

#: Celery's commands that need events or remote control.
REDIRECTED = frozenset({"flower", "inspect", "control", "status", "events"})


def side_channel_option(url: str) -> click.Option:
    """Return a hidden option of every command (Celery's "preload" hook), which redirects some of them.

    The callback of an option is the only public place that knows the application and the command that will run.
    """

    def redirect(context: click.Context, _option: click.Parameter, value: str | None) -> None:
        if context.command.name not in REDIRECTED or context.find_root().params.get("broker"):
            return  # `celery -b URL` names the broker
        target = value or url
        if not target:
            raise click.UsageError(
                f"`celery {context.command.name}` sees nothing on SQS without the side channel. Give the worker and this command "
                "a Redis: [monitor] url in redrive.toml, or REDRIVE_MONITOR__URL=redis://127.0.0.1:6379/0"
            )
        if context.command.name == "flower":
            os.environ.setdefault("FLOWER_ADDRESS", "127.0.0.1")  # Flower's own default is every interface
        use_redis(context.obj.app, target)

    return click.Option(["--side-channel"], metavar="URL", hidden=True, expose_value=False, callback=redirect)


def use_redis(app: Celery, url: str) -> None:
    """Make a Redis the broker of this process, and refuse to send tasks there."""
    url = require_certificate(url)
    for name in ("CELERY_BROKER_URL", "CELERY_BROKER_READ_URL", "CELERY_BROKER_WRITE_URL"):
        os.environ[name] = url  # like `celery -b URL`: Celery prefers these to its configuration
    app.conf.update(
        broker_url=url,
        broker_read_url=url,
        broker_write_url=url,
        broker_use_ssl=None,
        broker_transport_options=dict(TRANSPORT_OPTIONS),
        task_routes=(_refuse_task,),
    )


def _refuse_task(name: str, *_: Any, **__: Any) -> NoReturn:
    """Refuse a task, as a task router: no worker receives tasks from the side channel."""
    raise OperationalError(f"{name} is not sent: the side channel carries no tasks. Use `redrive send`.")
