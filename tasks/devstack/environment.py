"""The environment variables of the processes that `redrive up` and `redrive demo` start."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Variables that could lead a process to a real ledger, broker, cloud account or notification service.
_EXTERNAL = ("REDRIVE_", "CELERY_", "AWS_", "SENTRY_", "FLOWER_")
_LOOPBACK = ("127.0.0.1", "localhost")


def inherit_environment(**more: str) -> dict[str, str]:
    """Return this process's environment with `more`."""
    return {**os.environ, **_local_variables(os.environ), **more}


def isolate_environment(**more: str) -> dict[str, str]:
    """Return this process's environment with `more`, without any variable that leads out of this machine."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_EXTERNAL)}
    return {**kept, **_local_variables(kept), "AWS_EC2_METADATA_DISABLED": "true", **more}


def _local_variables(environ: Mapping[str, str]) -> dict[str, str]:
    """Return variables for unbuffered output and for loopback connections without a proxy."""
    unproxied = {
        name: ",".join([*filter(None, [environ.get(name)]), *_LOOPBACK])
        for name in ("NO_PROXY", "no_proxy")
        if environ.get(name) != "*"
    }
    return {"PYTHONUNBUFFERED": "1", **unproxied}
