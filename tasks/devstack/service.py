"""Redrive's own processes, as commands."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from tasks.devstack.processes import Command

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

#: What each of them says when it is there.
READY = {"worker": " ready.", "beat": "beat: Starting...", "intake": '"drains"'}


def service(env: Mapping[str, str]) -> list[Command]:
    """Return the worker, beat and the continuous intake, just as they are started in production."""
    celery = [sys.executable, "-m", "celery", "--quiet", "-A", "tasks"]
    return [
        Command(name="worker", argv=[*celery, "worker", "--loglevel=INFO"], env=env),
        Command(name="beat", argv=[*celery, "beat", "--loglevel=INFO"], env=env),
        Command(name="intake", argv=[sys.executable, "-m", "tasks.cli", "intake"], env=env),
    ]


def company_api(directory: Path, port: int, *options: str, env: Mapping[str, str]) -> Command:
    """Return the sample company's API."""
    argv = [sys.executable, "-m", "tasks.devstack.company.api", str(directory), "--port", str(port), *options]
    return Command(name="company", argv=argv, env=env)
