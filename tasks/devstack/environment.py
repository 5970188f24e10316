"""What the child processes of `redrive up` and `redrive demo` find in their environment."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

#: What would lead a process to somebody's real ledger, broker, cloud account or alerts.
_ELSEWHERE = ("REDRIVE_", "CELERY_", "AWS_", "SENTRY_", "FLOWER_")
_LOOPBACK = ("127.0.0.1", "localhost")


def inherited(**more: str) -> dict[str, str]:
    """Return this process's environment, with `more`."""
    return {**os.environ, **_local(os.environ), **more}


def hermetic(**more: str) -> dict[str, str]:
    """Return this process's environment without anything that leads out of this machine, with `more`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(_ELSEWHERE)}
    return {**kept, **_local(kept), "AWS_EC2_METADATA_DISABLED": "true", **more}


def _local(environ: Mapping[str, str]) -> dict[str, str]:
    """Have lines written at once, and no proxy asked for what is on this machine."""
    unproxied = {
        name: ",".join([*filter(None, [environ.get(name)]), *_LOOPBACK])
        for name in ("NO_PROXY", "no_proxy")
        if environ.get(name) != "*"
    }
    return {"PYTHONUNBUFFERED": "1", **unproxied}
