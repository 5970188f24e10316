"""The commands of Redrive's own processes and of the sample company's API."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from tasks.continuous_intake import STARTED_EVENT
from tasks.devstack.processes import Command
from tasks.monitoring import flower_command

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

#: The first words of a warning of Celery. It speaks of pickle, which Redrive does not use.
_ROOT_WARNING = "You're running the worker with superuser privileges"


def make_redrive_commands(env: Mapping[str, str]) -> list[Command]:
    """Return the worker, beat and continuous intake, as production starts them."""
    celery = [sys.executable, "-m", "celery", "--quiet", "-A", "tasks"]
    filters = ",".join(filter(None, [env.get("PYTHONWARNINGS"), f"ignore:{_ROOT_WARNING}"]))
    return [
        Command(
            name="worker",
            argv=[*celery, "worker", "--loglevel=INFO"],
            env={**env, "PYTHONWARNINGS": filters},
            ready_pattern=r" ready\.",
        ),
        Command(name="beat", argv=[*celery, "beat", "--loglevel=INFO"], env=env, ready_pattern=r"beat: Starting\.\.\."),
        Command(name="intake", argv=[sys.executable, "-m", "tasks.cli", "intake"], env=env, ready_pattern=f'"{STARTED_EVENT}"'),
    ]


def make_flower_command(port: int, *, env: Mapping[str, str]) -> Command:
    """Return Flower, which may end without an effect on Redrive."""
    argv = [*flower_command(port), "--logging=error"]
    return Command(name="flower", argv=argv, env=env, ready_check=(port, "/healthcheck"), essential=False)


def make_company_command(directory: Path, port: int, *options: str, env: Mapping[str, str]) -> Command:
    """Return the sample company's API."""
    argv = [sys.executable, "-m", "tasks.devstack.company.api", str(directory), "--port", str(port), *options]
    return Command(name="company", argv=argv, env=env, ready_check=(port, "/health"))
