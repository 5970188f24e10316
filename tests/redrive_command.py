"""The `redrive` command: in this process where that is the same, else in a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import ExitStack, redirect_stderr, redirect_stdout
from io import StringIO
from typing import TYPE_CHECKING, NamedTuple

import pytest
from waiting import TEST_TIMEOUT

from tasks.cli.app import run
from tasks.settings import settings

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

#: Commands that import no Celery. A process for each would take a second of a CPU.
WITHOUT_CELERY = {"jobs", "show", "audit", "stats", "rejects", "config", "db", "pause", "discard", "export", "import"}


class Done(NamedTuple):
    """The result of a command."""

    returncode: int
    stdout: str
    stderr: str


def run_command(*arguments: str, folder: Path, env: Mapping[str, str], stdin: bytes = b"") -> Done:
    """Run `redrive` to its end."""
    if arguments[0] in WITHOUT_CELERY and not stdin:
        return run_here(*arguments, folder=folder, env=env)
    return run_process(*arguments, folder=folder, env=env, stdin=stdin)


def run_process(*arguments: str, folder: Path, env: Mapping[str, str], stdin: bytes = b"") -> Done:
    """Run `redrive` in a process of its own."""
    command = [sys.executable, "-m", "tasks.cli", *arguments]
    done = subprocess.run(command, input=stdin, env=env, cwd=folder, capture_output=True, timeout=TEST_TIMEOUT, check=False)
    out, err = done.stdout.decode(), done.stderr.decode()
    assert "Traceback" not in err, err
    return Done(done.returncode, out, err)


def run_here(*arguments: str, folder: Path, env: Mapping[str, str]) -> Done:
    """Run `redrive` in this process, with this folder and environment."""
    with ExitStack() as stack:
        patch = stack.enter_context(pytest.MonkeyPatch.context())
        patch.chdir(folder)
        for name in os.environ.keys() - env.keys():
            patch.delenv(name)
        for name, value in env.items():
            patch.setenv(name, value)
        settings.cache_clear()
        stack.callback(settings.cache_clear)
        out = stack.enter_context(redirect_stdout(StringIO()))
        err = stack.enter_context(redirect_stderr(StringIO()))
        return Done(run(arguments), out.getvalue(), err.getvalue())
